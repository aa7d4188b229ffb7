"""A Sphinx extension: mathematics as plain TeX in the page, set by a local copy of KaTeX.

No request leaves for another host, and the fonts are embedded in the style sheet, because browsers refuse
font files to pages that are opened straight from the file system.
"""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path
from typing import Any

from docutils import nodes

__all__ = ["embed_fonts", "setup"]


def embed_fonts(css: str, folder: Path) -> str:
    """The style sheet with each ``url(fonts/...)`` replaced by the font itself."""

    def data(match: re.Match[str]) -> str:
        font = base64.b64encode((folder / match[1]).read_bytes()).decode()
        return f"url(data:font/woff2;base64,{font})"

    return re.sub(r"url\((fonts/[\w.-]+)\)", data, css)


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(f'<span class="tex">{html.escape(node.astext(), quote=False)}</span></span>')
    raise nodes.SkipNode


def _display(self: Any, node: nodes.math_block) -> None:
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
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    """Register the renderer; ``html_math_renderer = "gfm_katex"`` chooses it."""
    app.add_html_math_renderer("gfm_katex", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
