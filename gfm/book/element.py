"""What a notebook calls: obtain results, show a figure, say a sentence, print a table, judge the claims."""

from __future__ import annotations

import base64
import io
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gfm.book import datafiles, verdicts
from gfm.book.outputs import TOLERANCE, Caption, Figure, Output, Prose, Table, Verdicts, cell, markdown_table
from gfm.book.paths import build_folder, check_profile
from gfm.book.register import Bound, Register
from gfm.book.runs.handover import Handover
from gfm.errors import InputError, RegisterError
from gfm.store import Experiment, Result, obtain, provenance

__all__ = ["Element", "below"]

_MOST_BYTES = 200_000


def below(value: float, bound: float) -> str:
    """A number for reading; one that lies two orders of magnitude within its bound is said to be below that.

    What is left by rounding or by a solver has other digits on every machine, and they say nothing.
    """
    return verdicts.show_value(value, Bound(high=bound))


class Element:
    """One element of the register, as its notebook sees it.

    Args:
        name: the element's id in ``book/elements.yml``.
        profile: the notebook's parameter: smoke, book, paper, or custom (changed parameters, which
            never reach the status page).

    Raises:
        RegisterError: There is no project here.
        UnknownNameError: An unknown element or profile.
    """

    def __init__(self, name: str, profile: str = "smoke") -> None:
        if profile != "custom":
            check_profile(profile)
        self.register = Register.load()
        self.entry = self.register[name]
        self.profile = profile
        self.folder = build_folder(self.register.root) / profile
        self._start = time.perf_counter()
        self._handover = Handover.received()
        self._obtained: list[Mapping[str, Any]] = []

    def obtain(self, experiment: Experiment) -> Result:
        """The experiment's result, from the store or computed now; the element's verdicts record it.

        Raises:
            NotStoredError: It is not stored, and only stored results may be shown (``gfm run --stored``).
        """
        result = obtain(experiment, progress=self._handover.reporter(), only_stored=self._handover.only_stored)
        self._obtained.append(result.provenance)
        return result

    def show(self, fig: Any, name: str, *, alt: str, caption: str,
             data: Mapping[str, Any] | None = None, tolerance: float = 1e-3,
             varies: Mapping[str, str] | None = None) -> None:
        """Show a figure with its caption, and save it as SVG with its data as CSV and JSON.

        Args:
            fig: matplotlib Figure; closed afterwards.
            name: label of the figure, unique in the book, by which prose refers to it (role ``numref``).
            alt: the finding in words, for those who do not see the figure.
            caption: Markdown that can be read alone.
            data: name -> numbers that were drawn, so that the figure redraws from its files.
            tolerance: at which a rerun elsewhere must reproduce the data, relative to the largest of each
                array, and the numbers in the texts.
            varies: names of data that no two machines share -> their kind (``register.VARIES``); a rerun
                must reproduce their shape only.

        The notebook holds a PNG of at most 200 kB, coarser where it must be.

        Raises:
            InputError: A missing alt text or caption, an image above 200 kB at half the resolution, or a
                tolerance or kind that makes no sense.
        """
        alt, caption = " ".join(alt.split()), caption.strip()
        if len(alt) < 20 or len(caption) < 20:
            raise InputError(f"Figure {name!r} needs an alt text that says its finding, and a caption.")
        for share in (1.0, 0.85, 0.7, 0.5):  # of the resolution; the SVG has all of it
            png = _save(fig, "png", dpi=share * fig.dpi)
            if len(png) <= _MOST_BYTES:
                break
        else:
            raise InputError(
                f"Figure {name!r} takes {len(png) // 1000} kB; draw fewer points or a smaller figure "
                f"(at most {_MOST_BYTES // 1000} kB)."
            )
        stem = self._stem
        figures = self.folder / "figures" / stem
        figures.mkdir(parents=True, exist_ok=True)
        (figures / f"{name}.svg").write_bytes(_save(fig, "svg"))
        (figures / f"{name}.png").write_bytes(png)
        if data:
            datafiles.write(self.folder / "data" / stem, name, data)
        figure = Figure(name=name, alt=alt, caption=caption, element=self.entry.id, tolerance=float(tolerance),
                        varies=varies or None, data=datafiles.summary(data) if data else None).checked(data or ())
        if not self.entry.claims:  # nothing will be judged: the run is recorded here
            verdicts.write(self.register.root, self.entry, self.profile, [], self._meta())
        import matplotlib.pyplot as plt

        plt.close(fig)
        _display({"image/png": base64.b64encode(png).decode(), "text/plain": f"Figure {name}"}, figure)
        _display_markdown(f"*{caption}*" if "*" not in caption else caption,
                          Caption(name=name, tolerance=figure.tolerance))

    def say(self, markdown: str, *, tolerance: float = TOLERANCE, varies: str | None = None) -> None:
        """A sentence with computed numbers, set as prose (Markdown, with mathematics).

        Args:
            markdown: the text.
            tolerance: relative, at which a rerun elsewhere must reproduce the numbers.
            varies: the kind (``register.VARIES``) of numbers that no two machines share; then only the words
                must be the same.
        """
        _display_markdown(markdown, Prose(tolerance=float(tolerance), varies=varies or None).checked())

    def say_notes(self, runs: Mapping[Any, Any]) -> None:
        """Say what runs noted of themselves (a limit reached, a process that stopped), if anything.

        Args:
            runs: name -> ``central.Run`` (or its notes); a name is text, or a network and its learning rate.
        """
        lines = []
        for name, run in runs.items():
            label = name if isinstance(name, str) else f"{name[0]} at {name[1]:g}"
            lines += [f"- {label}: {note}" for note in dict.fromkeys(getattr(run, "notes", run))]
        if lines:
            self.say("Noted by the runs themselves:\n\n" + "\n".join(lines), varies="iterations")

    def table(self, rows: Sequence[Mapping[str, Any] | Sequence[Any]], columns: Sequence[str],
              name: str, caption: str, *, tolerance: float = TOLERANCE,
              varies: Mapping[str, str] | None = None) -> None:
        """A table, shown as Markdown and saved as CSV and JSON.

        Args:
            rows: mappings by column, or sequences in the columns' order; numbers are rounded to three
                digits for reading and kept whole in the files.
            columns: the headings, in order.
            name: label of the table, unique in the book.
            caption: Markdown that can be read alone.
            tolerance: relative, at which a rerun elsewhere must reproduce the numbers.
            varies: columns of numbers that no two machines share -> their kind (``register.VARIES``).
        """
        shown = Table(name=name, caption=caption.strip(), element=self.entry.id, tolerance=float(tolerance),
                      varies=varies or None).checked(columns)
        table = [[row.get(c) if isinstance(row, Mapping) else row[i] for i, c in enumerate(columns)]
                 for row in rows]
        datafiles.write_table(self.folder / "data" / self._stem, name, columns, table)
        _display_markdown(markdown_table(columns, ([_cell(v) for v in row] for row in table)), shown)
        _display_markdown(shown.caption, Caption(name=name, tolerance=shown.tolerance))

    def judge(self, **values: float | None) -> list[verdicts.Verdict]:
        """Hold every claim of the element against its bound; show the table and store the values.

        Args:
            values: claim id -> measured value; None where it could not be measured ("not run").
                Ids that are no Python names: ``judge(**{"A2-top": value})``.

        Returns:
            The verdicts, in the register's order.

        Raises:
            RegisterError: A claim that the register lacks or that is left out here.
        """
        for name in values:
            self.entry.claim(name)
        missing = [c.id for c in self.entry.claims if c.id not in values]
        if missing:
            raise RegisterError(
                f"Element {self.entry.id!r}: no value for {', '.join(missing)}; pass None if not run."
            )
        found = [verdicts.judge(c, values[c.id], self.profile) for c in self.entry.claims]
        verdicts.write(self.register.root, self.entry, self.profile, found, self._meta())
        rows = ([v.claim.id, cell(v.claim.sentence), cell(v.claim.quantity), v.shown, str(v.bound), f"**{v.verdict}**"]
                for v in found)
        head = ["Claim", "", "Measured", "Value", "Bound", "Verdict"]
        _display_markdown(markdown_table(head, rows), Verdicts(
            element=self.entry.id, tolerance={v.claim.id: v.claim.tolerance for v in found},
            varies={v.claim.id: v.claim.varies for v in found if v.claim.varies}))
        return found

    @property
    def _stem(self) -> str:
        notebook = self.entry.notebook or f"{self.entry.id}.ipynb"
        return notebook.rpartition("/")[2].removesuffix(".ipynb")

    def _meta(self) -> dict[str, Any]:
        used = self._obtained
        wall = time.perf_counter() - self._start
        saved = sum(r["seconds"] for r in used if r["reused"])
        return {
            "seconds": round(wall + saved, 2),  # what it takes from nothing, stored parts included
            "results": [{k: r.get(k) for k in ("experiment", "key", "parameters", "data", "source",
                                               "seconds", "when", "threads", "machine", "reused",
                                               "why")} for r in used],
            "versions": provenance.versions(), "machine": provenance.machine(),
            "threads": provenance.threads(), "commit": provenance.commit(str(self.register.root)),
            "when": provenance.now(),
            # cells never run may have been left out (gfm run --stored): no verdict on the whole
            **({"partial": True} if self._handover.only_stored else {}),
        }


def _save(fig: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    fig.savefig(buffer, format=kind, metadata=metadata, **options)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (float, np.floating)):
        return verdicts.show_value(float(value))
    return cell(value)


def _display_markdown(text: str, output: Output) -> None:
    _display({"text/markdown": text, "text/plain": text}, output)


def _display(bundle: dict[str, Any], output: Output) -> None:
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        print(bundle["text/plain"])  # a plain script: show what can be read
        return
    from IPython.display import display

    display(bundle, raw=True, metadata=output.metadata())
