"""The benchmark page, made from the measurements that ``benchmarks/*.py --keep`` stores in ``book/benchmarks``."""

import json
from pathlib import Path
from typing import Any

from gfm.book.outputs import cell, markdown_table
from gfm.errors import UnreadableFileError

__all__ = ["benchmarks_page", "cluster_table"]

_TITLES = {
    "central_step": "A step of the flows",
    "hvp": "A Hessian-vector product",
    "eigen": "Warm eigenpairs",
    "scaling": "Growth with size",
    "forecast": "A forecast of a network",
    "cells": "Cells of the profile paper",
}
# Short headings, so that the table fits the page; counts are per step.
_HEADS = {
    "milliseconds": "ms",
    "unit milliseconds": "ms a gradient",
    "gradients a step": "gradients",
    "products a step": "products",
    "third derivatives a step": "thirds",
}


def benchmarks_page(root: Path) -> str:
    """Markdown of the page: a table for each measurement, with machine, threads and versions.

    Raises:
        UnreadableFileError: A file in ``book/benchmarks`` is not a measurement.
    """
    parts = [
        "# Benchmarks",
        "Speed is counted in plain gradient evaluations of the same problem, timed in turn with what is measured, "
        "so that a slow or busy machine cancels. `make bench` measures all of it again; `benchmarks/` says how. A "
        "target that is missed is marked, not hidden.",
    ]
    order = {name: place for place, name in enumerate(_TITLES)}
    files = sorted((root / "book" / "benchmarks").glob("*.json"), key=lambda f: order.get(f.stem, len(order)))
    if not files:
        parts.append("Nothing has been measured yet.")
    for file in files:
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            parts.append(f"## {_TITLES.get(file.stem, file.stem)}\n\n{record['about']}")
            parts.append(_table(record["rows"]))
            parts.append(f"*{record['machine']}, {record['threads']} thread, torch {record['torch']}, "
                         f"{record['when']}.*")
        except (ValueError, KeyError, TypeError) as failure:
            raise UnreadableFileError(
                f"{file} is not a stored measurement; run its benchmark with --keep again."
            ) from failure
    return "\n\n".join(parts) + "\n"


def cluster_table(root: Path) -> str:
    """Markdown of what ``make test-cluster`` has seen (``workflow/tested.json``).

    Raises:
        UnreadableFileError: The file is not as the test writes it.
    """
    file = root / "workflow" / "tested.json"
    if not file.is_file():
        return "It has not been run yet."
    try:
        seen = json.loads(file.read_text(encoding="utf-8"))
        rows = [[what, f"{e['seconds']} s", e["slurm"], e["snakemake"], e["on"], e["when"][:10]]
                for what, e in seen.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise UnreadableFileError(f"{file} is not a record of make test-cluster; run it again.") from failure
    return markdown_table(["tried", "took", "Slurm", "Snakemake", "on", "when"], rows)


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return markdown_table([_HEADS.get(name, name) for name in columns],
                          ([_cell(row, name) for name in columns] for row in rows))


def _cell(row: dict[str, Any], name: str) -> str:
    value, measured = row.get(name), name in ("ratio", "value", "median products")
    missed = measured and value is not None and "target" in row and float(value) > float(row["target"])
    return f"**{cell(value)}** (missed)" if missed else cell(value)
