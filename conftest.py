"""Tests never touch the user's build: results and outputs go to a fresh store and to build/test.

One call, ``pytest tests notebooks --nbval --nbval-current-env``, runs in this order: unit tests, the committed
notebooks cell by cell (nbval), what those left behind (figure data, verdicts), the built pages.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "tests"))  # what tests share: toys, the tolerance of nbval
pytest_plugins = ["nbval_tolerance"]
BUILD = ROOT / "build" / "test"


def pytest_addoption(parser):
    parser.addoption("--keep-outputs", action="store_true",
                     help="test what build/test holds from an earlier call, without running notebooks")


def pytest_configure(config):
    store = tempfile.mkdtemp(prefix="gfm-store-")
    config.add_cleanup(lambda: shutil.rmtree(store, ignore_errors=True))
    if config.getoption("--nbval", default=False):
        shutil.rmtree(BUILD, ignore_errors=True)
    os.environ |= {"GFM_STORE": store, "GFM_BUILD": str(BUILD), "TQDM_DISABLE": "1",
                   "MPLBACKEND": os.environ.get("MPLBACKEND", "agg"), "PYTHONHASHSEED": "0"}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def pytest_ignore_collect(collection_path, config):
    """Only the project's own notebooks are run by nbval, not those that tests keep as samples."""
    if collection_path.suffix == ".ipynb" and not collection_path.is_relative_to(ROOT / "notebooks"):
        return True
    return None


def pytest_collection_modifyitems(items):
    def stage(item) -> int:
        path = item.path
        if path.suffix == ".ipynb":
            return 1
        after = {ROOT / "tests" / "notebooks": 2, ROOT / "tests" / "site": 3}
        return next((n for folder, n in after.items() if path.is_relative_to(folder)), 0)

    items.sort(key=stage)


@pytest.fixture(scope="session")
def smoke_outputs(request) -> Path:
    """``build/test/smoke`` with the verdicts, figures and data of every committed notebook.

    With nbval in the same call they are there already; otherwise the notebooks are run now.
    """
    from gfm.book.building import bring_up_to_date
    from gfm.book.register import Register

    option = request.config.getoption
    if not option("--nbval", default=False) and not option("--keep-outputs"):
        problems = bring_up_to_date(Register.load(ROOT), "smoke", say=lambda line: None).problems
        assert not problems, problems
    return BUILD / "smoke"
