"""The pages built from the committed notebooks, served on loopback, read by a headless Chromium."""

import contextlib
import functools
from dataclasses import dataclass, field
from pathlib import Path

import hosting
import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


@dataclass
class Visit:
    """What a page did while it was open."""

    page: object
    foreign: list[str] = field(default_factory=list)  # requests for another host (none is reached)
    errors: list[str] = field(default_factory=list)  # console errors, uncaught exceptions, failed loads
    bytes: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="session")
def html(smoke_outputs) -> Path:
    """The site built at profile smoke into build/test."""
    from gfm.book.register import Register
    from gfm.book.site.build import build_site

    with FileLock(smoke_outputs / "site.lock"):  # the first worker builds, the others find the pages current
        site = build_site(Register.load(ROOT), ("smoke",))
    assert not site.problems, site.problems
    return site.index.parent


@pytest.fixture(scope="session")
def served(html) -> str:
    """The site's address on loopback."""
    with hosting.serving(html) as address:
        yield address


@pytest.fixture
def visit(browser, served):
    """``visit(address, width=1280)`` opens a page with every other host cut off."""
    with _visits(browser, served) as go:
        yield go


@pytest.fixture(scope="module")
def seen(browser, served, request) -> Visit:
    """The page that the test is parametrized by, opened once for all tests that only look at it."""
    with _visits(browser, served) as go:
        yield go(request.param)


@contextlib.contextmanager
def _visits(browser, served):
    pages = []

    def go(address: str, width: int = 1280, scripts: bool = True, motion: str = "no-preference",
           scheme: str = "light") -> Visit:
        page = _context(browser, width, scripts, motion, scheme).new_page()
        pages.append(page)
        seen = Visit(page)

        def asked(request) -> None:
            if not request.url.startswith((served, "file://", "data:", "blob:")):
                seen.foreign.append(request.url)

        def arrived(response) -> None:
            if response.status >= 400:
                seen.errors.append(f"{response.status} {response.url}")
            elif response.url.startswith(served) and response.status != 304:  # known from an earlier page
                seen.bytes[response.url] = int(response.headers["content-length"])

        page.on("request", asked)
        page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: seen.errors.append(str(e)))
        page.on("response", arrived)
        page.goto(address if "://" in address else f"{served}/{address}", wait_until="load")
        if scripts:
            page.wait_for_timeout(150)
        return seen

    try:
        yield go
    finally:
        for page in pages:
            page.close()


@functools.cache
def _context(browser, width: int, scripts: bool, motion: str, scheme: str):
    """One for all pages of a kind: what they share is loaded once."""
    return browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=scripts,
                               reduced_motion=motion, color_scheme=scheme)
