"""A content security policy for each built page: scripts of the theme and of the package's sliders run, and no others.

The policy is made when the pages are, and names the allowed inline scripts by their digests. A script that a notebook's
output brings along is not among them, and no policy allows handlers (``onclick``), so that they never run. Styles set
colours and sizes only, so that all those of a page are allowed, again by their digests.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

from gfm.book.site.addresses import LOST
from gfm.figures.slider import script

__all__ = ["breaches", "protect"]

_META = '<meta http-equiv="Content-Security-Policy" content="{}" />'
_HEAD = re.compile(r'<head>(?:\s*<meta charset="[^"]*"\s*/?>)?')
_SEARCH = "search.html"
_THEMES_OWN = (LOST, _SEARCH)  # pages with nothing on them that a notebook wrote
_NAMED = re.compile(r"DOCUMENTATION_OPTIONS\.pagename = '[\w./-]+';")
_PROGRAMS = ("", "module", "text/javascript", "application/javascript")  # the types of scripts that run


class _Inline(HTMLParser):
    """What a page has inline: scripts, styles (elements and attributes), and what no policy allows; and its policy."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.sliders: set[str] = set()
        self.never: list[str] = []
        self.policy = ""
        self._open: list[str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.never += [f"the handler {name}" for name in found if name.startswith("on")]
        if found.get("href", "").strip().lower().startswith("javascript:"):
            self.never.append("a link that is a script")
        if "style" in found:
            self.styles.append(found["style"])
        if "gfm-slider" in found.get("class", "").split() and re.fullmatch(r"[\w-]+", found.get("id", "")):
            self.sliders.add(found["id"])
        if tag == "meta" and found.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = found.get("content", "")
        if tag == "style" or (tag == "script" and "src" not in found and found.get("type", "").lower() in _PROGRAMS):
            self._open = self.styles if tag == "style" else self.scripts
            self._open.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag in self.CDATA_CONTENT_ELEMENTS:  # a browser does not close these here
            self.set_cdata_mode(tag)

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag in self.CDATA_CONTENT_ELEMENTS:
            self._open = None


def protect(folder: Path) -> None:
    """Give each page below ``folder`` its policy, as the first thing in its head after the encoding."""
    pages = {page: page.read_text(encoding="utf-8") for page in sorted(folder.rglob("*.html"))}
    inline = {page.relative_to(folder).as_posix(): _Inline(text) for page, text in pages.items()}
    themes = {one for name in _THEMES_OWN if name in inline for one in inline[name].scripts}
    if _SEARCH in inline:  # it reads the pages that it finds, with their styles
        inline[_SEARCH].styles = [style for seen in inline.values() for style in seen.styles]
    for (page, text), seen in zip(pages.items(), inline.values(), strict=True):
        known = themes | {script(name) for name in seen.sliders}
        policy = _policy((s for s in seen.scripts if s in known or _NAMED.fullmatch(s)), seen.styles)
        if head := _HEAD.search(text):
            text = f"{text[:head.end()]}\n    {_META.format(policy)}{text[head.end():]}"
        page.write_text(text, encoding="utf-8")


def _policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """The policy of a page with these inline scripts and styles.

    ``data:`` holds the theme's icons and, for pages read without a server, the fonts of formulas.
    """
    rules = {"default-src": ["'self'"], "script-src": ["'self'", *_digests(scripts)],
             "style-src": ["'self'", *_digests(styles)], "img-src": ["'self'", "data:"],
             "font-src": ["'self'", "data:"], "object-src": ["'none'"], "base-uri": ["'self'"],
             "form-action": ["'self'"]}
    if len(rules["style-src"]) > 1:
        rules["style-src"].insert(1, "'unsafe-hashes'")  # the digests also hold for attributes
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in rules.items())


def _digests(texts: Iterable[str]) -> list[str]:
    digests = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts}
    return [f"'sha256-{digest}'" for digest in sorted(digests)]


def breaches(text: str) -> list[str]:
    """What a built page's policy keeps from running: a phrase each."""
    seen = _Inline(text)
    if not seen.policy:
        return ["it has no content security policy"]
    told = [f"{what}, which its policy keeps from running" for what in seen.never]
    return told + [f"an inline script, which its policy keeps from running ({' '.join(one.split())[:40]})"
                   for one in seen.scripts if _digests([one])[0] not in seen.policy]
