"""A progress bar over notebooks that also shows how far the computation inside each one is.

A notebook runs in its own process; its experiments write how far they are to a small file
(``$GFM_PROGRESS``), which is read here once a second.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tqdm import tqdm

from gfm.book.runs.plans import Outcome, Plan, run_all

__all__ = ["run_with_bar"]


def run_with_bar(plans: Sequence[Plan], jobs: int, title: str) -> list[Outcome]:
    """Run plans side by side under one bar; each one that ends is named with its seconds."""
    busy: list[Plan] = []
    lock, over = threading.Lock(), threading.Event()
    with tqdm(total=len(plans), unit="notebook", desc=title, dynamic_ncols=True) as bar:

        def show() -> None:
            bar.set_postfix_str(", ".join(_state(item) for item in busy))

        def started(item: Plan) -> None:
            with lock:
                busy.append(item)
                show()

        def done(outcome: Outcome) -> None:
            with lock:
                busy.remove(outcome.plan)
                word = f"FAILED ({outcome.error})" if outcome.error else f"{outcome.seconds:.0f} s"
                bar.write(f"  {outcome.plan.notebook.name}: {word}")
                bar.update()
                show()

        def watch() -> None:
            while not over.wait(1.0):
                with lock:
                    show()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            return run_all(plans, jobs, done, started)
        finally:
            over.set()
            watcher.join()


def _state(item: Plan) -> str:
    try:
        done, total = item.progress_file.read_text().split()[:2]
        return f"{item.notebook.stem} {100 * int(done) // max(int(total), 1)} %"
    except (OSError, ValueError):
        return item.notebook.stem
