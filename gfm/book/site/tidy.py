"""Make built pages light, and fit for readers who do not see them.

Light: no icon fonts or source maps, KaTeX only where it is needed, pruned styles. And what the theme lacks for screen
readers and the keyboard: landmarks with names, roles that exist, no empty heads of columns.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["prune", "tidy"]

_ICONS = re.compile(r'\s*<(?:script|link)\b[^>]*fontawesome[^>]*>(?:</script>)?')
_KATEX = re.compile(r'\s*<(?:script|link)\b[^>]*(?:katex/|mathematics\.js)[^>]*>(?:</script>)?')
_TABLE = '<div class="pst-scrollable-table-container">'  # wide ones scroll, so the keyboard must reach them
_EMPTY_HEAD = re.compile(r'<th class="head([^"]*)"><p></p></th>')
_ROLES = {
    '<div class="bd-sidebar-primary bd-sidebar">':
        '<div class="bd-sidebar-primary bd-sidebar" role="region" aria-label="Book and contents">',
    ' role="doc-biblioentry"': ' role="listitem"',
}
_PRUNED = ("bootstrap.css", "pydata-sphinx-theme.css", "sphinx-book-theme.css", "mystnb.*.css", "basic.css")


def tidy(html: Path) -> None:
    """Rewrite the pages and styles below ``html`` in place."""
    for page in html.rglob("*.html"):
        text = _ICONS.sub("", page.read_text(encoding="utf-8"))
        text = _accessible(text)
        if 'class="math' not in text:
            text = _KATEX.sub("", text)
        page.write_text(text, encoding="utf-8")
    shutil.rmtree(html / "_static" / "vendor", ignore_errors=True)
    shutil.rmtree(html / "_static" / "locales", ignore_errors=True)
    for file in [*html.rglob("*.map"), *html.glob("_static/*webpack-macros.html")]:
        file.unlink()
    texts = [p.read_text(encoding="utf-8") for kind in ("*.html", "*.js") for p in html.rglob(kind)]
    words = set(re.findall(r"[A-Za-z_][\w-]*", "\n".join(texts)))
    for pattern in _PRUNED:
        for file in html.rglob(pattern):
            file.write_text(prune(file.read_text(encoding="utf-8"), words), encoding="utf-8")


def _accessible(text: str) -> str:
    for lacking, whole in _ROLES.items():
        text = text.replace(lacking, whole)
    parts = text.split(_TABLE)
    named = (f'{_TABLE[:-1]} tabindex="0" role="region" aria-label="Table {i}">' for i in range(1, len(parts)))
    text = parts[0] + "".join(head + rest for head, rest in zip(named, parts[1:], strict=True))
    return _EMPTY_HEAD.sub(r'<td class="head\1"></td>', text)


def prune(css: str, words: set[str]) -> str:
    """A style sheet without the rules for classes that occur in no page or script (``words``)."""
    return "".join(_prune(css, words))


def _prune(css: str, words: set[str]) -> Iterator[str]:
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    for head, body in _blocks(css):
        if body is None:
            yield head
        elif head.lstrip().startswith(("@media", "@supports", "@layer", "@container")):
            inner = "".join(_prune(body, words))
            if inner.strip():
                yield f"{head}{{{inner}}}"
        elif head.lstrip().startswith("@"):
            yield f"{head}{{{body}}}"
        else:
            selectors = (s.strip() for s in re.split(r",(?![^(\[]*[)\]])", head))
            if kept := [s for s in selectors if _wanted(s, words)]:
                yield f"{','.join(kept)}{{{body}}}"


def _blocks(css: str) -> Iterator[tuple[str, str | None]]:
    """Take a style sheet apart.

    Yields:
        (head, body) of each top-level rule; (statement, None) for those that end in a semicolon.
    """
    position = 0
    while position < len(css):
        match = re.compile(r"[{;]").search(css, position)
        if match is None:
            return
        if match[0] == ";":
            yield css[position:match.end()], None
            position = match.end()
            continue
        depth, end = 1, match.end()
        while depth and end < len(css):
            depth += {"{": 1, "}": -1}.get(css[end], 0)
            end += 1
        yield css[position:match.start()].strip(), css[match.end():end - 1]
        position = end


def _wanted(selector: str, words: set[str]) -> bool:
    plain = re.sub(r":(?:not|is|where|has)\([^)]*\)", "", selector)
    return all(name.replace("\\", "") in words for name in re.findall(r"\.((?:[\w-]|\\.)+)", plain))
