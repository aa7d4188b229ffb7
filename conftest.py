"""Tests never touch the user's build: results and outputs go to a fresh store and to build/test.

One call, ``pytest tests notebooks --nbval --nbval-current-env``, runs in this order: unit tests, the
committed notebooks cell by cell (nbval), what those left behind (figure data, verdicts), the built pages.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
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
        shutil.rmtree(BUILD.with_name("test-ahead"), ignore_errors=True)
    os.environ |= {"GFM_STORE": store, "GFM_BUILD": str(BUILD), "TQDM_DISABLE": "1",
                   "MPLBACKEND": os.environ.get("MPLBACKEND", "agg"), "PYTHONHASHSEED": "0"}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def pytest_collection_finish(session):
    """While unit tests run on one core, the other computes the notebooks' results into the fresh store.

    nbval then executes every cell as ever, and finds those results there; what is missing it computes.
    """
    config = session.config
    both = {0, 1} <= {_stage(item) for item in session.items}
    if not both or config.option.collectonly or (os.cpu_count() or 1) < 2:
        return
    code = ("from gfm.book.building import bring_up_to_date as run; from gfm.book.register import Register;"
            "run(Register.load(), 'smoke', jobs=1, say=lambda line: None)")
    ahead = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True,
                             env={**os.environ, "GFM_BUILD": str(BUILD.with_name("test-ahead"))},
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    config.add_cleanup(lambda: ahead.poll() is None and os.killpg(ahead.pid, signal.SIGTERM))


def pytest_ignore_collect(collection_path, config):
    """Only the project's own notebooks are run by nbval, not those that tests keep as samples."""
    if collection_path.suffix == ".ipynb" and not collection_path.is_relative_to(ROOT / "notebooks"):
        return True
    return None


def pytest_collection_modifyitems(items):
    items.sort(key=_stage)


def _stage(item) -> int:
    """0: unit tests, 1: nbval, 2: what the notebooks left behind, 3: the built pages."""
    if item.path.suffix == ".ipynb":
        return 1
    after = {ROOT / "tests" / "notebooks": 2, ROOT / "tests" / "site": 3}
    return next((n for folder, n in after.items() if item.path.is_relative_to(folder)), 0)


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
