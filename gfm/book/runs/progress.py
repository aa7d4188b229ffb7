"""A progress bar over notebooks that also shows how far the computation inside each one is.

A notebook runs in its own process; how far its experiments are is asked once a second (see ``handover``).
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
            bar.set_postfix_str(", ".join(item.notebook.stem + item.handover.percent() for item in busy))

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
