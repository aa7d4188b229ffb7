"""Where the book and its repository are to be found in public, if anywhere: two lines of ``book/_config.yml``."""

from pathlib import Path
from urllib.parse import quote, urlsplit

from gfm.files import read_yaml

__all__ = ["LOST", "addresses", "page_address", "root_of"]

LOST = "404.html"
"""The page that hosts show in place of one that is not there."""


def addresses(root: Path) -> tuple[str, str]:
    """The public addresses of the book and of its repository in ``book/_config.yml`` ('' where there is none)."""
    config = read_yaml(root / "book" / "_config.yml")["sphinx"]["config"]
    return config["html_baseurl"], config["html_theme_options"]["repository_url"]


def page_address(address: str, path: str) -> str:
    """The public address of a page or file of the site."""
    return f"{address.rstrip('/')}/{quote(path)}"


def root_of(address: str) -> str:
    """The path of the site on its host, from its public address: ``/`` or ``/name/``."""
    return f"{urlsplit(address).path.rstrip('/')}/"
