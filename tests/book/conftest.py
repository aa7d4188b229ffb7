"""A tiny project (one notebook, one register, the book's own pages) to drive the whole chain on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).parent / "toy"


def make_project(folder: Path) -> Path:
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("results", "symbols.md"))
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


@pytest.fixture(scope="session")
def ran(tmp_path_factory) -> Path:
    """A toy project whose notebook was run under smoke and book; shared, so read it only."""
    from gfm.book.building import bring_up_to_date
    from gfm.book.register import Register

    root = make_project(tmp_path_factory.mktemp("ran") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GFM_BUILD", str(root / "build"))
        patch.setenv("GFM_STORE", str(root / "build" / "store"))
        for profile in ("smoke", "book"):
            report = bring_up_to_date(Register.load(root), profile, say=lambda line: None)
            assert not report.problems, report.problems
    return root
