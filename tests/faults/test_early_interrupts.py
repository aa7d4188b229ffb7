"""Ctrl-C while the command line is still being imported: no traceback, and the exit code of an interrupt."""

import random
import signal
import subprocess
import sys
import time

import pytest
from programs import environment

pytestmark = pytest.mark.no_cover
START = [sys.executable, "-c", "from gfm.program import main; print(flush=True); main()", "--help"]  # as installed


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def started(root, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(START, env=environment(root) | variables, text=True, cwd=root,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("slow", ["import time; time.sleep(60)", "try:\n    import time; time.sleep(60)\n"
                                  "except BaseException as error:\n    raise ImportError from error"],
                         ids=["that lets it through", "that turns it into another error"])
def test_an_interrupt_during_an_import(tmp_path, slow):
    (tmp_path / "typer.py").write_text(f"from pathlib import Path\nPath('begun').touch()\n{slow}")
    process = started(tmp_path, PYTHONPATH=f"{tmp_path}:{environment(tmp_path)['PYTHONPATH']}")
    end = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)
    assert interrupted(process) == (130, "")


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(20))
def test_an_interrupt_in_the_first_moments(tmp_path, moment):
    process = started(tmp_path)
    process.stdout.readline()  # Python itself has started
    time.sleep(random.Random(moment).uniform(0.0, 0.2))
    code, err = interrupted(process)
    assert code in (0, 130) and err == ""
