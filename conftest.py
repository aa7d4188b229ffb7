"""Tests never touch the user's build: results and outputs go to a fresh store and to build/test.

``make test`` runs the committed notebooks cell by cell (nbval), on two workers that share that store, and then, in a
second call, tests what the notebooks left behind (verdicts, data, pages) beside the unit tests.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "tests"))  # what tests share: toys, the comparison of nbval, a browser
pytest_plugins = ["chromium", "reproduction", "tables"]
BUILD = ROOT / "build" / "test"
# So many cases of a parametrized test are traced for coverage; further ones take the same lines.
TRACED = 3
# A worker takes a whole file: long ones begin first, so that none is left running alone at the end.
LONG = ("tests/site", "tests/test_recipes.py", "tests/test_lint.py", "tests/test_device.py", "tests/central",
        "tests/book", "tests/faults", "tests/experiments", "notebooks/gradient-flow-matching")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background job; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--keep-outputs", action="store_true",
                     help="test what build/test holds from an earlier call, without running notebooks")


def pytest_configure(config):
    from gfm.book.runs.execute import environment

    if config.getoption("--nbval", default=False):
        import forked_kernels

        forked_kernels.use()
    if hasattr(config, "workerinput"):  # a worker has what its controller set up
        return
    store = tempfile.mkdtemp(prefix="gfm-store-")
    config.add_cleanup(lambda: shutil.rmtree(store, ignore_errors=True))
    if config.getoption("--nbval", default=False):
        shutil.rmtree(BUILD, ignore_errors=True)
    os.environ |= environment() | {"GFM_STORE": store, "GFM_BUILD": str(BUILD)}


def pytest_ignore_collect(collection_path, config):
    """Only the project's own notebooks are run by nbval, not those that tests keep as samples."""
    if collection_path.suffix == ".ipynb" and not collection_path.is_relative_to(ROOT / "notebooks"):
        return True
    return None


def pytest_collection_modifyitems(items):
    seen = Counter()
    for item in items:
        place = getattr(item, "function", item)
        seen[place] += 1
        if seen[place] > TRACED:
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=lambda item: next((n for n, name in enumerate(LONG) if item.path.is_relative_to(ROOT / name)), 99))


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """What a test draws from the global generators does not depend on the tests before it, nor on its worker."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _no_figure_left_open():
    """Matplotlib counts open figures in the process, so what a test leaves open would be held against another one."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(scope="session")
def smoke_outputs(request) -> Path:
    """``build/test/smoke`` with the verdicts, figures and data of every committed notebook.

    They are there with ``--keep-outputs`` after a call with nbval; otherwise the notebooks are run now.
    """
    from gfm.book.building import bring_up_to_date
    from gfm.book.register import Register

    if not request.config.getoption("--keep-outputs"):
        problems = bring_up_to_date(Register.load(ROOT), "smoke").problems
        assert not problems, problems
    return BUILD / "smoke"
