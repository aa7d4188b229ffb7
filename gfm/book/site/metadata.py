"""A Sphinx extension: what a page says about itself to search engines and link previews, and a page for lost readers.

``html_baseurl`` in ``book/_config.yml`` is the book's public address, ``repository_url`` that of its repository.
Canonical addresses and the site map need the first; launch buttons and a feedback link need the second. Neither has to
be set.
"""

import html
import re
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from docutils import nodes

from gfm.book.site.addresses import LOST, page_address, root_of
from gfm.book.site.citing import BOOK, entries, page_entry

__all__ = ["first_sentence", "plain_tex", "setup", "site_map"]

_NOT_LISTED = (LOST, "search.html", "genindex.html")
_LAUNCH = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com",
           "notebook_interface": "jupyterlab"}
_CITATION = re.compile(r"\s*\[[^\]]*\b\d{4}[a-z]?\b[^\]]*\]")


def plain_tex(tex: str) -> str:
    """A formula as plain text: Greek letters and nabla as such, other commands left out."""

    def sign(match: re.Match[str]) -> str:
        kind = "CAPITAL" if match[1][0].isupper() else "SMALL"
        for name in (f"GREEK {kind} LETTER {match[1].replace('lambda', 'lamda')}", match[1]):
            with suppress(KeyError):
                return unicodedata.lookup(name)
        return "…" if match[1].endswith("dots") else ""

    tex = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", tex.replace(r"\,", " "))
    plain = re.sub(r"\\([A-Za-z]+)\s?", sign, re.sub(r"([_^])\{([^{}]{2,})\}", r"\1(\2)", tex))
    return re.sub(r"[{}$\\]", "", plain).strip()


def first_sentence(page: nodes.Node) -> str:
    """The first sentence of a page's prose as plain text.

    The line on the page's run is skipped, and so are labels of up to three words, such as *What is seen.*
    """
    for paragraph in page.findall(nodes.paragraph):
        if "runline" in paragraph["classes"] or not isinstance(paragraph.parent, nodes.Structural):
            continue
        words = "".join(plain_tex(leaf.astext()) if isinstance(leaf.parent, nodes.math) else leaf.astext()
                        for leaf in paragraph.findall(nodes.Text))
        words = " ".join(_CITATION.sub("", words).split())
        for sentence in re.split(r"(?<=[.?!])(?<!e\.g\.)(?<!i\.e\.)\s+", words):
            if sentence.count(" ") > 2:
                return sentence.removesuffix(":")
    return ""


def site_map(html_folder: Path, address: str) -> str:
    """The site map of all pages that readers should find, as XML."""
    pages = sorted(p.relative_to(html_folder).as_posix() for p in html_folder.rglob("*.html")
                   if "_static" not in p.relative_to(html_folder).parts)
    lines = [f"  <url><loc>{html.escape(page_address(address, page))}</loc></url>"
             for page in pages if page not in _NOT_LISTED]
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>',
                      '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">', *lines, "</urlset>", ""])


def _configure(app: Any, config: Any) -> None:
    """Launch buttons and a feedback link, if the repository is known."""
    if config.html_theme_options.get("repository_url"):
        config.html_theme_options |= {"use_issues_button": True, "launch_buttons": _LAUNCH}


def _describe(app: Any, name: str, template: str, context: dict[str, Any], page: nodes.document | None) -> None:
    """Description and Open Graph data of one page."""
    book = app.config.html_title
    title = html.unescape(re.sub(r"<[^>]+>", "", context.get("title", ""))) or book
    said = first_sentence(page) if page is not None else ""
    if name.startswith("notebooks/") and said:
        said = f"{title}: {said}"
    told = {"og:title": title, "og:type": "article", "og:site_name": book,
            "og:description": said or (book if title == book else f"{title}. {book}.")}
    address = app.config.html_baseurl
    if picture := _picture(app, page):
        told["og:image"] = page_address(address, picture) if address else "../" * name.count("/") + picture
    if address:
        told["og:url"] = page_address(address, f"{name}.html")
    lines = [f'<meta name="description" content="{html.escape(told["og:description"])}" />']
    lines += [f'<meta property="{key}" content="{html.escape(value)}" />' for key, value in told.items()]
    lines.append('<meta name="twitter:card" content="summary_large_image" />')
    if page is not None and name != app.config.root_doc and (Path(app.srcdir) / "references.bib").is_file():
        entry = page_entry(entries(Path(app.srcdir))[BOOK], name, title, address)
        context["body"] += ('<details class="cite"><summary>Cite this page</summary>'
                            f"<pre>{html.escape(entry, quote=False)}</pre></details>")
    context["metatags"] = "\n".join([context.get("metatags") or "", *lines])


def _picture(app: Any, page: nodes.document | None) -> str:
    """The page's first figure, else the front page's, relative to the site's root; '' if there is none.

    Most hosts show no SVG in a preview, so the PNG of the same name is taken, if there is one beside it.
    """
    known = app.env.images
    sources = {name: source for source, (_, name) in known.items()}
    drawn = [Path(image["uri"]).name for image in page.findall(nodes.image)] if page is not None else []
    front = app.env.get_doctree(app.config.root_doc).findall(nodes.image)
    drawn += [known[image["uri"]][1] for image in front if image["uri"] in known]
    name = next((name for name in drawn if name in sources), "")
    if not name:
        return ""
    png = Path(app.srcdir, sources[name]).with_suffix(".png")
    if name.endswith(".svg") and png.is_file():
        name = f"{Path(name).stem}-preview.png"
        images = Path(app.outdir, "_images")
        images.mkdir(exist_ok=True)
        shutil.copyfile(png, images / name)
    return f"_images/{name}"


def _lost(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    body = ('<section><h1>There is no such page</h1><p>The address may be misspelt, or the page has another name now. '
            '<a href="index.html">The front page</a> lists every part of the book, and '
            '<a href="search.html">the search</a> finds words in it.</p></section>')
    yield Path(LOST).stem, {"title": "There is no such page", "body": body}, "page.html"


def _finish(app: Any, error: Exception | None) -> None:
    """A host shows the page for lost readers under any address, so its links start at the site's root."""
    if error or app.builder.name != "html":
        return
    folder, address = Path(app.outdir), app.config.html_baseurl
    page, root = folder / LOST, root_of(address)
    text = re.sub(r'\b(href|src|action|data-content_root)="(?![#/]|[a-z]+:)(?:\./)?', rf'\1="{root}',
                  page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    if address:
        (folder / "sitemap.xml").write_text(site_map(folder, address), encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Register the extension."""
    app.connect("config-inited", _configure, priority=900)
    app.connect("html-page-context", _describe)
    app.connect("html-collect-pages", _lost)
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
