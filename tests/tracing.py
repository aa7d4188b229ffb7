"""When the tests are traced for coverage: while the package is imported, and in the first moments of every test.

Tracing takes half as long again. What a long test does later, it or another has done in its first moments; imports of
other libraries and the collection of tests say nothing about the package.
"""

from __future__ import annotations

import importlib
import pkgutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

FIRST = 0.1
"""Seconds of processor time of a test that are traced."""
LIBRARIES = ("torch", "matplotlib.pyplot", "scipy.optimize", "sklearn.datasets", "cvxpy", "hypothesis", "IPython",
             "jupyter_client", "torchdiffeq")


def _measured():
    """What measures the coverage; None where nothing does, or where the system has no such timer."""
    if "coverage" not in sys.modules or not hasattr(signal, "setitimer"):
        return None
    return sys.modules["coverage"].Coverage.current()


@contextmanager
def _untraced() -> Iterator[None]:
    measured = _measured()
    if measured:
        measured.stop()
    yield
    if measured:
        measured.start()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    elsewhere = session.config.getoption("numprocesses", None)  # the workers collect, not their controller
    if _measured() is None or elsewhere:
        return (yield)
    with _untraced():
        for name in LIBRARIES:
            importlib.import_module(name)
    import gfm

    for module in pkgutil.walk_packages(gfm.__path__, "gfm."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    with _untraced():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    measured, stopped, ended = _measured(), [], []
    if measured is None:
        return (yield)

    def stop(*_) -> None:
        if not ended:  # a signal may be handled after the timer was taken away
            measured.stop()
            stopped.append(True)

    signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, FIRST)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        ended.append(True)
        if stopped:
            measured.start()
