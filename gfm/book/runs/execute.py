"""Run one notebook through papermill: with given parameters into another file, or in place with its own.

A build runs ``python -m gfm.book.runs.execute SOURCE TARGET PID < parameters.json``, one process per notebook, so
that several run in parallel and a crash stops only one. That process ends, and its kernel with it, when it is told to
or when the build is gone.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gfm.book.orphans import end_with
from gfm.errors import GfmError, InputError
from gfm.files import read_json, write_text, writing

__all__ = ["NotebookFailed", "check_loopback", "clean", "environment", "in_place", "with_parameters"]

_LANGUAGE = {"name": "python"}
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class NotebookFailed(GfmError):
    """A cell of a notebook raised an error; the message names the notebook, the cell and the error."""


def environment() -> dict[str, str]:
    """The environment variables of every notebook and test: no progress bars in outputs, and one thread.

    Small problems are fastest on one thread, and notebooks run in parallel; set ``OMP_NUM_THREADS`` for more. Threads
    that wait give up their core then: with more threads than cores, spinning makes small operations ten times slower.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
            "TQDM_DISABLE": "1", "MPLBACKEND": "agg", "PYTHONHASHSEED": "0", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def check_loopback() -> None:
    """Check that this machine can connect to itself at 127.0.0.1, where the kernels answer.

    Raises:
        InputError: This machine cannot connect to itself.
    """
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        raise InputError(f"Notebooks cannot be run, since this machine does not reach itself at 127.0.0.1 "
                         f"({error.strerror or error}): bring its loopback interface up.") from error


def with_parameters(source: Path, target: Path, parameters: dict[str, Any]) -> None:
    """Execute ``source`` with ``parameters`` through papermill, in the notebook's folder, and write ``target``.

    Kernels that start at the same time may choose the same port, so one that does not come up is started again.

    Raises:
        NotebookFailed: A cell raised an error; the failed notebook is next to the target, as ``.failed.ipynb``.
        InputError: The target cannot be written to.
    """
    import nbformat

    os.environ.update(environment())
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".failed.ipynb")
    try:
        with writing(scratch):
            _execute(source, scratch, parameters)
    except InputError:
        scratch.unlink(missing_ok=True)  # half of it
        raise
    ran = nbformat.from_dict(clean(read_json(scratch, "a notebook")))
    write_text(target, nbformat.writes(ran, version=4).rstrip("\n") + "\n")  # lines split and keys sorted
    scratch.unlink()


def _execute(source: Path, target: Path, parameters: dict[str, Any]) -> None:
    import papermill

    for left in (2, 1, 0):
        try:
            papermill.execute_notebook(
                str(source), str(target), parameters, cwd=str(source.parent), kernel_name="python3",
                progress_bar=False, log_output=False,
            )
            break
        except papermill.PapermillExecutionError as error:
            what = f"{error.ename}: {error.evalue}".strip(": .\n")
            raise NotebookFailed(f"{source.name}, cell {error.cell_index}: {what}.") from error
        except RuntimeError as failure:
            if not left or "before replying" not in str(failure):
                raise


def in_place(source: Path) -> bool:
    """Execute a committed notebook with its own parameters and write its outputs back.

    Returns:
        Whether the file changed.

    Raises:
        NotebookFailed: A cell raised an error; the file is unchanged.
        InputError: This machine cannot connect to itself.
    """
    check_loopback()
    before = source.read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        target = Path(folder) / source.name
        with_parameters(source, target, {})
        after = target.read_text(encoding="utf-8")
    write_text(source, after)
    return after != before


def clean(notebook: dict[str, Any]) -> dict[str, Any]:
    """Remove metadata that differ between runs or machines (times, versions, paths), in place."""
    notebook["metadata"] = {"kernelspec": _KERNEL, "language_info": _LANGUAGE}
    for cell in notebook["cells"]:
        kept = cell.get("metadata", {})
        for key in ("execution", "papermill", "scrolled", "collapsed"):
            kept.pop(key, None)
        if not kept.get("tags", True):  # papermill adds an empty list of tags to each cell
            del kept["tags"]
        if "injected-parameters" in kept.get("tags", ()):
            cell["id"] = "injected-parameters"
        for output in cell.get("outputs", ()):
            if output["output_type"] == "display_data":
                output.pop("execution_count", None)
    return notebook


def _stops_with(parent: int, target: Path) -> None:
    """End this process and its kernel at once if it is told to, or if its parent is gone.

    A kernel ends when its own parent is gone, but its parent is this process, not the build.
    """
    folder = tempfile.tempdir = tempfile.mkdtemp(prefix="gfm-")  # the kernel's connection file is written here

    def stop(*_: Any) -> None:
        import psutil

        own = psutil.Process()
        children = own.children(recursive=True)
        for child in children:
            child.kill()
        psutil.wait_procs(children, timeout=5)  # a kernel may be writing
        for part in (".failed.ipynb", ".progress"):
            target.with_suffix(part).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        own.kill()  # an ordinary exit would wait for the kernel

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    end_with(parent, stop)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def main() -> int:
    """The process that a build starts."""
    source, target = map(Path, sys.argv[1:3])
    _stops_with(int(sys.argv[3]), target)
    try:
        with_parameters(source, target, json.load(sys.stdin))
    except GfmError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
