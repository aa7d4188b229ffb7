"""A pytest plugin: a headless Chromium that reaches no other host."""

import os
import shutil
import warnings

import pytest

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # no other host


@pytest.fixture(scope="session")
def browser():
    """Chromium; where there is none, or no Playwright, these tests are skipped loudly."""
    path = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    how = ("THE PAGES WERE NOT READ IN A BROWSER: no Chromium found. On Debian: apt-get install chromium; "
           "elsewhere set CHROMIUM to its path.")
    if not path:
        warnings.warn(how, stacklevel=1)
        pytest.skip(how)
    try:
        from playwright import sync_api
    except ImportError:
        how = "THE PAGES WERE NOT READ IN A BROWSER: no Playwright found. Install it: pip install playwright."
        warnings.warn(how, stacklevel=1)
        pytest.skip(how)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()
