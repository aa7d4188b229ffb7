"""A checker of built pages: links, anchors, alt texts, nothing from another host, no script kept from running."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gfm.book.site.policy import breaches

__all__ = ["check_site"]

_LOADS = {("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("video", "src"),
          ("audio", "src"), ("object", "data"), ("embed", "src")}
_LOADING_LINKS = ("stylesheet", "preload", "icon", "modulepreload", "preconnect", "dns-prefetch", "manifest")


@dataclass
class _Seen(HTMLParser):
    """Ids, references and images of one page."""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    assets: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        for name in ("id", "name") if tag == "a" else ("id",):
            if found.get(name):
                self.ids.add(found[name])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and set(found.get("rel", "").split()) & set(_LOADING_LINKS):
            self.assets.append(found.get("href", ""))
        if tag == "meta" and found.get("property") == "og:image" and "://" not in found.get("content", ""):
            self.assets.append(found.get("content", ""))
        for name in ("src", "data"):
            if (tag, name) in _LOADS and found.get(name):
                self.assets.append(found[name])
        if tag == "img" and not found.get("alt", "").strip() and found.get("role") != "presentation":
            self.wrong.append(f"an image without alt text ({found.get('src', '?')[-40:]})")
        if tag == "img" and found.get("alt", "").endswith((".png", ".svg")):
            self.wrong.append(f"an image whose alt text is a file name ({found['alt'][-40:]})")


def check_site(html: Path, root: str = "/") -> list[str]:
    """Everything that is wrong with the pages below ``html``, one sentence each.

    ``root`` is the site's path on its host, with which links that start at the host's root begin.
    """
    pages = {p.resolve(): _Seen() for p in sorted(html.rglob("*.html")) if "_static" not in p.relative_to(html).parts}
    for path, page in pages.items():
        text = path.read_text(encoding="utf-8")
        page.feed(text)
        page.wrong += breaches(text)
    if not pages:
        return [f"{html.name} holds no pages"]
    problems = []
    for path, page in pages.items():
        where = path.relative_to(html.resolve()).as_posix()
        problems += [f"{where}: {what}" for what in page.wrong]
        for target in page.assets:
            problems += _asset(_goal(html, root, path, target), target, where)
        for target in page.links:
            problems += _link(_goal(html, root, path, target), target, where, pages)
    return problems


def _goal(html: Path, root: str, page: Path, target: str) -> Path:
    """The file to which a link within the site leads."""
    path = unquote(urlsplit(target).path)
    if not path:
        return page
    goal = (html / path.removeprefix(root) if path.startswith(root) else page.parent / path).resolve()
    return goal / "index.html" if goal.is_dir() else goal


def _asset(goal: Path, target: str, where: str) -> list[str]:
    parts = urlsplit(target)
    if parts.scheme == "data":
        return []
    if parts.scheme or parts.netloc:
        return [f"{where}: loads {target} from another host"]
    if not parts.path or not goal.is_file():
        return [f"{where}: loads {target}, which does not exist"]
    return []


def _link(goal: Path, target: str, where: str, pages: dict[Path, _Seen]) -> list[str]:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:  # links for readers to follow; not loaded
        return []
    if not goal.is_file():
        return [f"{where}: links to {target}, which does not exist"]
    fragment = unquote(parts.fragment)
    if fragment and goal in pages and fragment not in pages[goal].ids:
        return [f"{where}: links to {target}, but nothing there has that id"]
    return []
