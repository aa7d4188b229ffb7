"""Run one notebook: with parameters through papermill, or in place as it stands.

``python -m gfm.book.runs.execute SOURCE TARGET < parameters.json`` is how a build starts it, one process a
notebook, so that several run side by side and a crash takes nothing else along.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gfm.errors import GfmError

__all__ = ["NotebookFailed", "clean", "environment", "in_place", "with_parameters"]

_LANGUAGE = {"name": "python"}
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class NotebookFailed(GfmError):
    """A cell of a notebook raised; the sentence names notebook, cell and error."""


def environment() -> dict[str, str]:
    """The variables under which every notebook and test runs: no progress bars in outputs, and one thread.

    Small problems are fastest on one thread, and notebooks run side by side. ``OMP_NUM_THREADS`` asks for more.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    return {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TQDM_DISABLE": "1",
            "MPLBACKEND": "agg", "PYTHONHASHSEED": "0", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def with_parameters(source: Path, target: Path, parameters: dict[str, Any],
                    progress: bool = False) -> None:
    """Execute ``source`` with ``parameters`` through papermill and write ``target``.

    The working directory is the notebook's folder.

    Raises:
        NotebookFailed: a cell fails; the failed notebook then lies beside the target, ending in ``.failed.ipynb``.
    """
    import papermill

    os.environ.update(environment())
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".failed.ipynb")
    try:
        _started(lambda: papermill.execute_notebook(
            str(source), str(scratch), parameters, cwd=str(source.parent), kernel_name="python3",
            progress_bar=progress, log_output=False,
        ))
    except papermill.PapermillExecutionError as error:
        raise NotebookFailed(
            f"{source.name}, cell {error.cell_index}: {error.ename}: {error.evalue}"
        ) from error
    notebook = json.loads(scratch.read_text(encoding="utf-8"))
    _write(clean(notebook), target)
    scratch.unlink()


def in_place(source: Path) -> bool:
    """Execute a committed notebook as it stands and write its outputs back; whether it changed.

    Raises:
        NotebookFailed: a cell fails; the file stays as it was.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    os.environ.update(environment())
    before = source.read_text(encoding="utf-8")
    notebook = nbformat.reads(before, as_version=4)
    client = NotebookClient(notebook, kernel_name="python3", record_timing=False, timeout=None,
                            resources={"metadata": {"path": str(source.parent)}})
    try:
        _started(client.execute)
    except CellExecutionError as error:
        raise NotebookFailed(f"{source.name}: {error.ename}: {error.evalue}") from error
    _write(clean(json.loads(nbformat.writes(notebook))), source)
    return source.read_text(encoding="utf-8") != before


def _started(execute: Callable[[], object]) -> None:
    """Execute, and again where the kernel did not come up: two that start at once may choose the same port."""
    for left in (2, 1, 0):
        try:
            execute()
            return
        except RuntimeError as failure:
            if not left or "before replying" not in str(failure):
                raise


def clean(notebook: dict[str, Any]) -> dict[str, Any]:
    """Drop what changes from run to run or from machine to machine: times, versions, paths, colours."""
    notebook["metadata"] = {"kernelspec": _KERNEL, "language_info": _LANGUAGE}
    for cell in notebook["cells"]:
        kept = cell.get("metadata", {})
        for key in ("execution", "papermill", "scrolled", "collapsed"):
            kept.pop(key, None)
        if "injected-parameters" in kept.get("tags", ()):
            cell["id"] = "injected-parameters"
        for output in cell.get("outputs", ()):
            output.pop("execution_count", None) if output["output_type"] == "display_data" else None
    return notebook


def _write(notebook: dict[str, Any], target: Path) -> None:
    """Canonical form (lines split, keys sorted), written atomically."""
    import nbformat

    text = nbformat.writes(nbformat.from_dict(notebook), version=4)
    scratch = target.with_suffix(f".{os.getpid()}.partial")
    scratch.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    os.replace(scratch, target)


def main() -> int:
    """The process that a build starts."""
    source, target = map(Path, sys.argv[1:3])
    try:
        with_parameters(source, target, json.load(sys.stdin))
    except NotebookFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
