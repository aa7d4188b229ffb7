"""Every page as a reader meets it: mathematics, figures, words, weight, keyboard, phone, no network."""

import os
import re
from pathlib import Path

import pytest

from gfm.book.register import Register
from gfm.book.site.links import check_site

ROOT = Path(__file__).parents[2]
REGISTER = Register.load(ROOT)
NOTEBOOKS = [f"notebooks/{Path(n).with_suffix('.html').as_posix()}" for n in REGISTER.notebooks()]
MAIN = ["index.html", "status.html", "central-flows.html", "gradient-flow-matching.html",
        "notebooks/central-flows/gd-central-flow.html",
        "notebooks/gradient-flow-matching/forecasting-least-squares.html", "api-optimizers.html"]
PAGES = [*NOTEBOOKS, *MAIN[:4], "how-to-read.html", "remember.html", "glossary.html", "both.html", "benchmarks.html",
         "how-to-run.html", "at-scale.html", "how-to-cite.html", "downloads.html", "limits.html", "symbols.html",
         "references.html", "search.html", "genindex.html", "404.html",
         *(f"{page.stem}.html" for page in sorted((ROOT / "book").glob("api*.md")))]
MOST_BYTES = 1_000_000

pytestmark = pytest.mark.site
every_page = pytest.mark.parametrize("seen", PAGES, indirect=True)
every_notebook = pytest.mark.parametrize("seen", NOTEBOOKS, indirect=True)
main_pages = pytest.mark.parametrize("name", MAIN)


def test_the_list_of_pages_is_complete(html):
    found = {p.relative_to(html).as_posix() for p in html.rglob("*.html") if "_static" not in p.parts}
    assert found == set(PAGES)


def test_links_anchors_alt_texts_and_assets(html):
    assert check_site(html) == []


def test_no_address_of_a_package_host_or_path_of_this_machine_is_left(html):
    for file in html.rglob("*"):
        if file.suffix in (".html", ".css", ".js", ".csv", ".json", ".ipynb"):
            assert str(ROOT) not in file.read_text(encoding="utf-8"), file
    assert not list(html.rglob("*.map"))


@every_page
def test_a_page_as_it_is_served(seen):
    """No other host, no error, light, mathematics set, headings in order, and all this on a phone."""
    page = seen.page
    assert seen.foreign == [] and seen.errors == []
    weight = sum(n for url, n in seen.bytes.items()
                 if not url.split("?")[0].endswith((".svg", ".png")))
    assert 10_000 < weight <= MOST_BYTES, f"{weight} bytes"

    asked = page.locator(".math .tex").count()
    assert page.locator(".math .tex > .katex, .math .tex > .katex-display").count() == asked
    assert page.locator(".katex-error").count() == 0
    for left_over in ("$$", ":label:", "{cite", "{eq}", "{numref"):
        assert left_over not in page.locator("main").inner_text()

    levels = page.evaluate("() => [...document.querySelectorAll('main :is(h1, h2, h3, h4, h5)')]"
                           ".filter(h => h.checkVisibility()).map(h => +h.tagName[1])")
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False)), levels

    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.parametrize("name", ["central-flows.html", "gradient-flow-matching.html"])
def test_equations_are_numbered_and_readable_from_a_file(visit, html, name):
    page = visit(f"file://{html / name}")
    assert page.errors == [] and page.foreign == []
    assert page.page.locator(".math .katex-display").count() >= 1
    assert page.page.locator(".eqno").first.inner_text().startswith("(")
    loaded = page.page.evaluate("async () => { await document.fonts.ready; return [...document.fonts]"
                                ".filter(f => f.status === 'loaded').map(f => f.family); }")
    assert any("KaTeX" in family for family in loaded), "the fonts of the formulas did not load"


@pytest.mark.parametrize("name", [page for page in PAGES if page != "404.html"])  # only a server shows that one
def test_a_page_opens_from_the_file_system(visit, html, name):
    seen = visit(f"file://{html / name}")
    assert seen.foreign == [] and seen.errors == []
    assert seen.page.locator("h1:visible").count() == 1


@every_notebook
def test_figures_have_words_numbers_and_data(seen):
    page = seen.page
    figures = page.locator("article figure")
    assert figures.count() + page.locator("article table.data").count() >= 1
    for i in range(figures.count()):
        figure = figures.nth(i)
        image = figure.locator("img")
        assert len(image.get_attribute("alt")) >= 40
        image.scroll_into_view_if_needed()
        assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") > 100
        caption = figure.locator("figcaption").inner_text()
        assert caption.startswith("Fig.") and len(caption) > 40
        for kind in ("SVG", "CSV", "JSON"):
            link = figure.locator("a.download", has_text=kind)
            assert link.count() == 1, f"no {kind} of figure {i + 1}"
            assert page.request.get(link.evaluate("a => a.href")).ok


@every_notebook
def test_a_notebooks_page_names_its_profile_and_offers_the_notebook(seen):
    page = seen.page
    line = page.locator("p.runline")
    assert "smoke" in line.inner_text()
    response = page.request.get(line.locator("a.download").evaluate("a => a.href"))
    assert response.ok and response.json()["nbformat"] == 4


def test_the_status_page_has_every_element_and_every_claim(visit):
    page = visit("status.html", scripts=False).page  # nothing is folded away
    text = page.locator("article").inner_text().replace("’", "'")
    for entry in REGISTER:
        assert entry.title in text, entry.id
    claims = page.locator("details.element > ul:first-of-type > li:has(.verdict)")
    assert claims.count() == sum(len(e.claims) for e in REGISTER if e.notebook)
    words = {"holds", "holds in shape only", "fails", "not judged", "not run"}
    for claim in claims.all():
        assert claim.is_visible() and claim.locator(".verdict").inner_text() in words and "bound:" in claim.inner_text()
    assert "python" in text and "torch" in text and not page.locator("fieldset.filter").is_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_status_page_is_short_until_a_verdict_is_asked_for(visit, html, width):
    page = visit(f"file://{html / 'status.html'}", width=width).page  # no server is needed
    page.set_viewport_size({"width": width, "height": 900})
    assert page.locator("details.element[open]").count() == 0
    height = page.evaluate("document.documentElement.scrollHeight")
    assert height < (390 if width == 390 else 250) * len(REGISTER.elements)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for word in ("fails", "holds in shape only", ""):
        page.locator(f"fieldset.filter input[value='{word}']").check()
        shown = page.locator("details.element > ul > li:has(.verdict):visible .verdict").all_inner_texts()
        assert set(shown) == ({word} if word else set())
        visible = sum(page.locator("details.element").nth(i).is_visible()
                      for i in range(page.locator("details.element").count()))
        assert visible == (page.locator("details.element").count() if not word
                           else page.locator("details.element[open]").count())


@pytest.mark.parametrize("name", ["status.html", "index.html", "notebooks/central-flows/gd-central-flow.html"])
def test_verdicts_lead_to_their_definitions(visit, name):
    page = visit(name, scripts=False).page
    link = page.locator(".verdict a").first
    word = link.inner_text()
    link.click()
    goal = page.url.partition("#")[2]
    assert "how-to-read.html" in page.url and goal == f"verdict-{word.replace(' ', '-')}"
    assert page.locator(f"section:has(> #{goal}) h3, #{goal} h3").first.inner_text().lower().startswith(word)


def test_the_front_page_counts_claims_and_lists_failures(visit):
    page = visit("index.html").page
    text = page.locator("article").inner_text()
    claims = sum(len(e.claims) for e in REGISTER if e.notebook)
    assert f"There are {claims} claims." in text and "{{" not in text
    fails = int(re.search(r"(\d+) claims fail, on", text)[1])
    assert page.locator("#what-did-not-reproduce ul ul > li").count() == fails > 0
    assert page.locator("figure img").get_attribute("src").endswith("front.svg")
    for paper in ("2410.24206", "2505.20221"):
        assert page.locator(f"article a[href='https://arxiv.org/abs/{paper}']").count() == 1


@pytest.mark.parametrize("word, page", [
    ("A4", "gd-central-flow"), ("G14", "gd-central-flow"), ("S8", "srmsprop-central-flow"),
    ("C4", "rmsprop-stationary"), ("RMSProp", "rmsprop-edge"), ("Scalar RMSProp", "srmsprop-edge"),
    ("Adam", "beyond-rmsprop"), ("gradient descent", "gd-quadratics"), ("nu", "rmsprop-edge"),
    ("Sigma", "gd-central-flow"), ("kappa", "forecasting-least-squares"), ("complementarity", "glossary"),
])
def test_the_search_gives_a_words_own_page_first(visit, word, page):
    found = visit(f"search.html?q={word.replace(' ', '+')}").page
    found.wait_for_selector("#search-results ul.search li", timeout=15_000)
    first = found.locator("#search-results ul.search li a").first.get_attribute("href")
    assert first.partition("#")[0].partition("?")[0].endswith(f"{page}.html"), first


def test_the_meaning_of_a_symbol_is_seen_on_a_phone(visit):
    page = visit("symbols.html", width=390).page
    rows = page.locator("table.symbols tbody tr")
    assert rows.count() > 30
    for i in range(rows.count()):
        box = rows.nth(i).locator("td").nth(1).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["width"] > 200


def test_search_finds(visit):
    page = visit("search.html?q=sharpness").page
    page.wait_for_selector("#search-results ul.search li", timeout=15_000)
    assert page.locator("#search-results ul.search li").count() >= 1
    assert visit("search.html?q=sharpness").errors == []


def test_the_search_box_opens_by_keyboard(visit):
    page = visit("index.html").page
    page.keyboard.press("Control+k")
    assert page.locator(".search-button__search-container input:visible").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES if os.environ.get("GFM_AUDIT") == "every" else MAIN)
def test_no_fault_in_the_audit_of_accessibility(visit, name, width, scheme):
    """Of the main pages here; ``make audit`` asks for every page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(name, width=width, scheme=scheme).page
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    results = axe.run(page)
    found = [f"{v['id']}: {v['help']} ({v['nodes'][0]['html'][:160]})" for v in results.response["violations"]]
    assert found == []


def test_the_audit_of_accessibility_can_fail(visit, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = tmp_path / "page.html"
    page.write_text('<html lang="en"><title>A</title><main><h1>A</h1><img src="a.png"></main></html>', encoding="utf-8")
    assert [v["id"] for v in axe.run(visit(page.as_uri()).page).response["violations"]] == ["image-alt"]


@main_pages
def test_without_scripts_the_words_and_figures_remain(visit, name):
    page = visit(name, scripts=False).page
    assert page.locator("h1").first.inner_text() and page.locator("article p").count() >= 1


def test_the_gate_to_other_hosts_can_fail(visit, tmp_path):
    """A page that asks another host is seen doing so: the checks above are not blind."""
    file = tmp_path / "probe.html"
    file.write_text('<html><body><img src="http://example.org/x.png">'
                    "<script>console.error('no')</script></body></html>")
    seen = visit(f"file://{file}")
    assert seen.foreign == ["http://example.org/x.png"] and "no" in seen.errors


def test_the_slider_moves_and_does_without_scripts_or_motion(visit):
    name = "notebooks/central-flows/gd-central-flow.html"
    page = visit(name).page
    box = page.locator(".gfm-slider")
    assert box.locator("button").is_visible()
    last = box.locator("output").inner_text()
    page.evaluate("() => { const i = document.querySelector('.gfm-slider input');"
                  " i.value = 5; i.dispatchEvent(new Event('input')); }")
    shown = box.locator("output").inner_text()
    assert shown != last and "step 5" in shown
    assert len(page.locator(".gfm-slider polyline.run").first.get_attribute("points").split(" ")) == 6

    still = visit(name, motion="reduce").page.locator(".gfm-slider")
    assert still.locator("input").is_visible() and not still.locator("button").is_visible()

    plain = visit(name, scripts=False).page.locator(".gfm-slider")
    assert plain.locator("svg").is_visible() and not plain.locator("input").is_visible()
    assert len(plain.locator("polyline.run").first.get_attribute("points").split(" ")) > 50


def test_a_printed_page_has_text_and_whole_figures_only(visit):
    page = visit("notebooks/central-flows/gd-central-flow.html", width=672).page
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.emulate_media(media="print")
    try:
        for furniture in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".prev-next-area",
                          ".downloads", "#pst-back-to-top", ".gfm-slider-controls", "details.hide"):
            found = page.locator(furniture)
            assert found.count() and not any(one.is_visible() for one in found.all()), furniture
        assert page.locator("h1:visible").count() == 1 and page.locator(".katex").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 672
        for image in page.locator("article figure img").all():
            box = image.bounding_box()
            assert 100 < box["height"] < 990, "taller than a sheet of A4 between its margins"
        assert page.evaluate("getComputedStyle(document.querySelector('article figure')).breakInside") == "avoid"
        colours = page.evaluate("['.bd-article p:not(.runline)', 'body'].map(s => document.querySelector(s))"
                                ".map((e, i) => getComputedStyle(e)[i ? 'backgroundColor' : 'color'])")
        assert colours == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    finally:
        page.emulate_media(media="screen")
