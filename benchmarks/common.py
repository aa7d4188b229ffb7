"""Timing in pairs: what is measured and its unit in turn, so that a machine's drift cancels."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gfm
from gfm.store.provenance import machine, now

THREADS = 1
torch.set_num_threads(THREADS)


def pairwise(work: Callable[[], Any], unit: Callable[[], Any], rounds: int = 30) -> dict[str, float]:
    """Median milliseconds of ``work`` and ``unit`` and the median of their ratios, round by round."""
    for _ in range(3):
        work(), unit()
    pairs = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        middle = time.perf_counter()
        for _ in range(5):
            unit()
        pairs.append((middle - started, (time.perf_counter() - middle) / 5))
    return {
        "milliseconds": 1e3 * statistics.median(a for a, _ in pairs),
        "unit milliseconds": 1e3 * statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
    }


def report(name: str, about: str | None, rows: list[dict[str, Any]]) -> None:
    """Print the rows; with ``--keep`` on the command line, keep them for the book's page."""
    print(f"{name}: {machine()}, {THREADS} thread, torch {torch.__version__}")
    for row in rows:
        print("  " + ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    if "--keep" not in sys.argv:
        return
    folder = Path(__file__).parent.parent / "book" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "about": " ".join((about or "").split()), "machine": machine(), "threads": THREADS,
        "torch": torch.__version__, "when": now(), "rows": rows,
    }
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def perceptron(dims: list[int], n: int, dtype: torch.dtype = torch.float32) -> gfm.Problem:
    """A GELU network on standard normal inputs and smooth targets."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in zip(dims[:-1], dims[1:], strict=True):
        layers += [nn.Linear(a, b), nn.GELU()]
    net = nn.Sequential(*layers[:-1]).to(dtype)
    x = torch.randn(n, dims[0], generator=torch.Generator().manual_seed(1))
    y = torch.stack([torch.sin(2 * x[:, i]) + x[:, i] * x[:, -1] for i in range(dims[-1])], 1)
    return gfm.Problem(net, x.to(dtype), y.to(dtype))
