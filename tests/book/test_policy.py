"""Each page's content security policy, kept by a browser: what pages need runs, what was slipped into them does not."""

import re
import shutil
from pathlib import Path

import pytest
from book.test_metadata import known  # noqa: F401
from hosting import serving

from gfm.book.site.links import check_site
from gfm.book.site.policy import breaches, protect
from gfm.book.site.tidy import tidy
from gfm.figures.slider import Curve, SliderPanel, script, slider

TOY = "notebooks/part/toy.html"
LISTEN = """window.refused = []; document.addEventListener('securitypolicyviolation',
    e => refused.push(`${e.effectiveDirective} ${e.sample || e.blockedURI}`))"""
SLIDER = slider([SliderPanel("A", "step", "y", [Curve([0, 1, 2], [2, 1, 0], "central", "central")], (0, 2), (0, 2))],
                [0, 1, 2], name="a-slider", alt="A line that falls.")
NAMED = 'a");document.title=("harm'
HARM = {
    "script": "<script>document.title = 'harm'</script>",
    "out of the article": "</article></main><script>document.title = 'harm'</script>",
    "after a comment": "<!-- > --><script type='module'>document.title = 'harm'</script>",
    "handler": "<img src='gone.png' alt='' onerror=\"document.title = 'harm'\">",
    "as a slider": f"<div class='gfm-slider' id='{NAMED}'></div><script>{script(NAMED)}</script>",
    "as a name": "<script>DOCUMENTATION_OPTIONS.pagename = ''; document.title = 'harm';</script>",
    "other host": "<script src='https://example.org/harm.js'></script>",
    "data": "<script src=\"data:text/javascript,document.title='harm'\"></script>",
    "base": "<base href='https://example.org/'>",
    "object": "<object data='data:text/html,<script>1</script>'></object>",
    "frame": "<iframe srcdoc=\"<script>parent.document.title = 'harm'</script>\"></iframe>",
}


@pytest.fixture(scope="module")
def html(whole, tmp_path_factory) -> Path:
    """The toy's pages, one with a slider, and one for each attempt to do harm, made before the policies are."""
    html = tmp_path_factory.mktemp("policy") / "html"
    shutil.copytree(whole / "build/site/html", html)
    for page in html.rglob("*.html"):
        page.write_text(re.sub(r"<meta http-equiv=.*/>", "", page.read_text()))
    text = (html / TOY).read_text()
    for name, what in (HARM | {"slider": SLIDER}).items():
        (html / TOY).with_name(f"{name}.html").write_text(text.replace("</article>", f"{what}</article>", 1))
    protect(html)
    return html


@pytest.fixture(scope="module")
def opened(browser, html):
    """``opened(name)`` gives a page, and fills a list with what the browser complains of."""
    context = browser.new_context()
    context.add_init_script(LISTEN)

    def go(name: str, where: str):
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{where}/{name}", wait_until="load")
        page.wait_for_timeout(100)
        return page, said

    with serving(html) as go.address:
        yield go
    context.close()


def everything_runs(page, said) -> bool:
    assert said == [] and page.evaluate("refused") == []
    return True


def test_every_page_has_a_policy_without_anything_unsafe(html):
    for page in html.rglob("*.html"):
        if "_static" not in page.parts:
            head, policy, _ = re.split(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)" />',
                                       page.read_text())
            assert "<script" not in head and "<link" not in head and len(head) < 500, "it comes first"
            assert "unsafe-inline" not in policy and "unsafe-eval" not in policy and "*" not in policy
            scripts = re.search(r"script-src ([^;]*)", policy)[1].split()
            assert scripts[0] == "'self'" and all(word.startswith("'sha256-") for word in scripts[1:])
            assert "object-src 'none'; base-uri 'self'; form-action 'self'" in policy


@pytest.mark.parametrize("name", [TOY, "index.html", "status.html", "search.html", "404.html", "genindex.html"])
def test_what_a_page_needs_runs(opened, html, name):
    for where in [opened.address, f"file://{html}"][:1 if name == "404.html" else 2]:
        page, said = opened(name, where)
        assert everything_runs(page, said)
        asked = page.locator(".math .tex").count()
        assert page.locator(".math .tex > .katex, .math .tex > .katex-display").count() == asked
        assert page.locator("button.theme-switch-button").count() >= 1, "the theme's scripts write its buttons"
        page.close()


def test_what_a_reader_uses_runs(opened):
    page, said = opened("status.html", opened.address)
    page.locator("fieldset.filter input[value='fails']").check()
    assert page.locator("details.element > ul > li:has(.verdict):visible .verdict").all_inner_texts() == ["fails"]
    page.keyboard.press("Control+k")
    page.locator(".search-button__search-container input:visible").fill("line")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results ul.search li", timeout=15_000)
    assert "search.html?q=line" in page.url and everything_runs(page, said)
    theme = page.evaluate("document.documentElement.dataset.theme")
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
    assert theme and everything_runs(page, said)
    page.close()


def test_a_slider_moves(opened):
    page, said = opened("notebooks/part/slider.html", opened.address)
    box = page.locator(".gfm-slider")
    assert box.locator("button").is_visible() and box.locator("output").inner_text() == "step 2"
    page.evaluate("() => { const i = document.querySelector('.gfm-slider input');"
                  " i.value = 1; i.dispatchEvent(new Event('input')); }")
    assert box.locator("output").inner_text() == "step 1"
    assert box.locator("svg").evaluate("e => getComputedStyle(e).fontSize") == "12px", "its styles hold"
    assert everything_runs(page, said)
    page.close()


def test_launch_buttons_and_feedback_run(browser, known, tmp_path):  # noqa: F811
    html = tmp_path / "html"
    shutil.copytree(known, html)
    tidy(html)  # without the theme's icons, whose script writes styles
    context = browser.new_context()
    context.add_init_script(LISTEN)
    page = context.new_page()
    page.goto(f"file://{html}/notebooks/one.html")
    for host in ("mybinder.org", "colab.research.google.com"):
        page.locator("button[aria-label='Launch interactive content']").click()
        assert page.locator(f"a[href*='{host}']").first.is_visible()
        page.keyboard.press("Escape")
    assert page.locator("a[href*='/issues/new?']").count() and page.evaluate("refused") == []
    context.close()


@pytest.mark.parametrize("name", HARM)
def test_what_was_slipped_in_does_not_run(opened, name):
    page, said = opened(f"notebooks/part/{name}.html", opened.address)
    assert "harm" not in page.title() and page.evaluate("document.baseURI") == page.url
    assert any("Content Security Policy" in what for what in said), "nothing was kept from running"
    page.close()


def test_without_a_policy_it_would(opened, html):
    """The test above is not blind."""
    ran = []
    for name in ("script", "out of the article", "after a comment", "handler", "as a slider", "as a name", "frame"):
        file = html / TOY
        file.with_name("open.html").write_text(re.sub(r"<meta http-equiv=.*/>", "",
                                                      file.with_name(f"{name}.html").read_text()))
        page, _ = opened("notebooks/part/open.html", opened.address)
        ran += [name] * (page.title() == "harm")
        page.close()
    file.with_name("open.html").unlink()
    assert len(ran) == 7, ran


@pytest.mark.parametrize("name, word", [("script", "an inline script"), ("as a slider", "an inline script"),
                                        ("as a name", "an inline script"), ("handler", "the handler onerror"),
                                        ("other host", "from another host")])
def test_the_checker_tells_of_what_does_not_run(html, name, word):
    assert any(f"/{name}.html" in problem and word in problem for problem in check_site(html))


def test_the_checker_tells_of_links_that_are_scripts_and_of_pages_without_a_policy():
    policy = "<meta http-equiv='content-security-policy' content=\"default-src 'self'\">"
    assert breaches(f"<head>{policy}</head><a href=' JavaScript:alert()'>x</a>") == [
        "a link that is a script, which its policy keeps from running"]
    assert breaches("<head></head>") == ["it has no content security policy"]
    assert breaches(f"<head>{policy}</head><script type='application/ld+json'>{{}}</script>") == []
