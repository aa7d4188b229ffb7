"""A Sphinx extension: mathematics as plain TeX in the page, typeset by a local copy of KaTeX.

Nothing is requested from another host. Browsers refuse to load font files for pages opened from the file system;
for those the fonts are embedded in a style sheet.
"""

import base64
import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line needs split_styles without it
    from docutils import nodes

__all__ = ["setup", "split_styles"]

_FACE = re.compile(r"@font-face\{[^}]*\}")


def split_styles(folder: Path) -> None:
    """Split ``katex.min.css`` into rules, font faces that link to files, and faces with embedded fonts.

    ``mathematics.js`` loads the linked faces over HTTP (the browser then fetches only the fonts in use) and
    the embedded ones if the page was opened from the file system.
    """
    css = (folder / "katex.min.css").read_text(encoding="utf-8")
    faces = "".join(_FACE.findall(css))

    def data(match: re.Match[str]) -> str:
        font = base64.b64encode((folder / match[1]).read_bytes()).decode()
        return f"url(data:font/woff2;base64,{font})"

    embedded = re.sub(r"url\((fonts/[\w.-]+)\)", data, faces)
    for name, text in (("katex", _FACE.sub("", css)), ("linked", faces), ("embedded", embedded)):
        (folder / f"{name}.css").write_text(text, encoding="utf-8")
    (folder / "katex.min.css").unlink()


def _inline(self: Any, node: "nodes.math") -> None:
    from docutils.nodes import SkipNode

    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(f'<span class="tex">{html.escape(node.astext(), quote=False)}</span></span>')
    raise SkipNode


def _display(self: Any, node: "nodes.math_block") -> None:
    from docutils.nodes import SkipNode
    from sphinx.util.math import get_node_equation_number

    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    tex = node.astext()
    if not node["nowrap"] and r"\\" in tex and r"\begin" not in tex:
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    self.body.append(f'<div class="tex">{html.escape(tex, quote=False)}</div></div>')
    raise SkipNode


def setup(app: Any) -> dict[str, Any]:
    """Register the renderer; ``html_math_renderer = "gfm_katex"`` chooses it."""
    app.add_html_math_renderer("gfm_katex", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
