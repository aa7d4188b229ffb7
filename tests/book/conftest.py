"""A tiny project (one notebook, one register, the book's own pages) to drive the whole chain on."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from gfm.book.building import bring_up_to_date, build
from gfm.book.register import Register
from gfm.book.site import build as site

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).parent / "toy"


def make_project(folder: Path) -> Path:
    """The toy among the book's own prose, without pages that link to its elements, and the slow ones on the package."""
    leave = shutil.ignore_patterns("results", "symbols.md", "remember.md", "how-to-run.md", "api*.md",
                                   "central-flows.md", "gradient-flow-matching.md")
    shutil.copytree(ROOT / "book", folder / "book", ignore=leave)
    shutil.copytree(TOY, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A fresh toy project; the working directory is its root, its build folder its own."""
    root = make_project(tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.setenv("GFM_BUILD", str(root / "build"))
    monkeypatch.setenv("GFM_STORE", str(root / "build" / "store"))
    return root


@pytest.fixture
def no_sphinx(monkeypatch):
    """The pages stay as they are: what a test finds does not depend on them."""
    monkeypatch.setattr(site, "_sphinx", lambda source, folder: (folder / "html").mkdir(exist_ok=True))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A toy project made by the first process of this call of pytest that needs it; shared, so read it only."""
    base = factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name / "project"
    root.parent.mkdir(exist_ok=True)
    made = root.parent / "made"
    with FileLock(root.parent / "lock"), pytest.MonkeyPatch.context() as patch:
        if not made.exists():
            patch.setenv("GFM_BUILD", str(root / "build"))
            patch.setenv("GFM_STORE", str(root / "build" / "store"))
            make(root)
            made.touch()
    return root


@pytest.fixture(scope="session")
def ran(tmp_path_factory) -> Path:
    """A toy project whose notebook was run under smoke and book."""

    def make(root: Path) -> None:
        make_project(root)
        for profile in ("smoke", "book"):
            report = bring_up_to_date(Register.load(root), profile)
            assert not report.problems, report.problems

    return made_once(tmp_path_factory, "ran", make)


@pytest.fixture(scope="session")
def whole(ran, tmp_path_factory) -> Path:
    """The same with its pages, in which nothing is wanting."""

    def make(root: Path) -> None:
        shutil.copytree(ran, root)
        report = build(Register.load(root), "book", rerun=False)
        assert report.problems == [] and not report.site.reused

    return made_once(tmp_path_factory, "whole", make)
