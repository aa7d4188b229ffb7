"""What a notebook calls to obtain results, show figures, sentences and tables, and judge its claims."""

import base64
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gfm.book import datafiles, verdicts
from gfm.book.outputs import Caption, Figure, Output, Prose, Table, Verdicts, cell, markdown_table
from gfm.book.paths import PROFILES, base_profile, build_folder
from gfm.book.register import TOLERANCE, Bound, Register
from gfm.book.runs.handover import Handover
from gfm.checks import known, number
from gfm.errors import InputError, RegisterError
from gfm.figures import style
from gfm.files import write_bytes
from gfm.store import Experiment, Result, obtain, provenance

__all__ = ["Element", "below"]

_MOST_BYTES = 200_000


def below(value: float, bound: float) -> str:
    """A number for reading; if it is more than 100 times smaller than its bound, only that is said.

    Digits of rounding errors and solver residuals differ between machines and mean nothing.
    """
    for name, one in (("value", value), ("bound", bound)):
        number(name, one, math.isfinite, "a finite number")
    return verdicts.show_value(value, Bound(high=bound))


class Element:
    """One element of the register, as its notebook uses it.

    Args:
        name: the element's id in ``book/elements.yml``.
        profile: the notebook's parameter of that name: smoke, book, paper, or one of them after "custom-" (changed
            parameters; such a run never appears on the status page).

    Raises:
        RegisterError: The current folder is not inside a project.
        UnknownNameError: The element or the profile is unknown.
    """

    def __init__(self, name: str, profile: str = "smoke") -> None:
        known("profile", base_profile(profile) if isinstance(profile, str) else profile, PROFILES)
        self.register = Register.load()
        self.entry = self.register[name]
        self.profile = profile
        self.folder = build_folder(self.register.root) / profile
        self._start = time.perf_counter()
        self._handover = Handover.received()
        self._obtained: list[Mapping[str, Any]] = []

    def obtain(self, experiment: Experiment) -> Result:
        """The experiment's result, stored or computed now; the verdict file records its provenance.

        Raises:
            NotStoredError: The result is not stored, and only stored results may be used (``gfm run --stored``).
        """
        result = obtain(experiment, progress=self._handover.reporter(), only_stored=self._handover.only_stored)
        self._obtained.append(result.provenance)
        return result

    def show(self, fig: Any, name: str, *, alt: str, caption: str,
             data: Mapping[str, Any] | None = None, tolerance: float = 1e-3,
             varies: Mapping[str, str] | None = None) -> None:
        """Show a figure with its caption, and save it as SVG and PNG with its data as CSV and JSON.

        The notebook holds a PNG of at most 200 kB, at a lower resolution if necessary.

        Args:
            fig: matplotlib Figure; closed afterwards.
            name: label of the figure, unique in the book, by which prose refers to it (role ``numref``).
            alt: the finding in words, for readers who do not see the figure.
            caption: Markdown that can be understood on its own.
            data: name -> numbers that were drawn, so that the figure can be redrawn from its files.
            tolerance: within which a rerun on another machine must reproduce the data, relative to the
                largest value of each array, and the numbers in alt text and caption.
            varies: names of data that differ between machines -> their kind (``register.VARIES``); a rerun
                must reproduce only their shape.

        Raises:
            InputError: The alt text or caption has fewer than 20 characters, the image exceeds 200 kB even at
                half the resolution, or a tolerance or kind is invalid.
        """
        alt, caption = " ".join(alt.split()), caption.strip()
        if len(alt) < 20 or len(caption) < 20:
            raise InputError(f"Figure {name!r} needs an alt text that says its finding, and a caption.")
        for share in (1.0, 0.85, 0.7, 0.5):  # of the full resolution, for the PNG only
            png = style.image(fig, "png", dpi=share * fig.dpi)
            if len(png) <= _MOST_BYTES:
                break
        else:
            raise InputError(
                f"Figure {name!r} takes {len(png) // 1000} kB; draw fewer points or a smaller figure "
                f"(at most {_MOST_BYTES // 1000} kB)."
            )
        stem = self._stem
        figures = self.folder / "figures" / stem
        write_bytes(figures / f"{name}.svg", style.image(fig, "svg"))
        write_bytes(figures / f"{name}.png", png)
        if data:
            datafiles.write(self.folder / "data" / stem, name, data)
        figure = Figure(name=name, alt=alt, caption=caption, element=self.entry.id, tolerance=float(tolerance),
                        varies=varies or None, data=datafiles.summary(data) if data else None).checked(data or ())
        if not self.entry.claims:  # without claims ``judge`` is not called, so the run is recorded here
            verdicts.write(self.register.root, self.entry, self.profile, [], self._meta())
        import matplotlib.pyplot as plt

        plt.close(fig)
        _display({"image/png": base64.b64encode(png).decode(), "text/plain": f"Figure {name}"}, figure)
        _display_markdown(f"*{caption}*" if "*" not in caption else caption,
                          Caption(name=name, tolerance=figure.tolerance))

    def say(self, markdown: str, *, tolerance: float = TOLERANCE, varies: str | None = None) -> None:
        """Show a sentence with computed numbers as prose (Markdown, with mathematics).

        Args:
            markdown: the text.
            tolerance: relative, within which a rerun on another machine must reproduce the numbers.
            varies: the kind (``register.VARIES``) of the numbers, if they differ between machines; then only
                the words must be the same.

        Raises:
            InputError: The tolerance or the kind is invalid.
        """
        _display_markdown(markdown, Prose(tolerance=float(tolerance), varies=varies or None).checked())

    def say_notes(self, runs: Mapping[Any, Any]) -> None:
        """Show the notes that runs made about themselves (a limit reached, a process that stopped), if any.

        Args:
            runs: name -> ``central.Run`` (or its notes); a name is text or a pair (network, learning rate).
        """
        lines = []
        for name, run in runs.items():
            label = name if isinstance(name, str) else f"{name[0]} at {name[1]:g}"
            lines += [f"- {label}: {note}" for note in dict.fromkeys(getattr(run, "notes", run))]
        if lines:
            listed = "\n".join(lines)
            self.say(f"<details><summary>Noted by the runs themselves</summary>\n\n{listed}\n\n</details>",
                     varies="iterations")

    def table(self, rows: Sequence[Mapping[str, Any] | Sequence[Any]], columns: Sequence[str],
              name: str, caption: str, *, tolerance: float = TOLERANCE,
              varies: Mapping[str, str] | None = None) -> None:
        """Show a table as Markdown and save it as CSV and JSON.

        Args:
            rows: mappings by column, or sequences in the order of the columns; numbers are rounded to three
                digits for reading but not in the files.
            columns: the headings, in order.
            name: label of the table, unique in the book.
            caption: Markdown that can be understood on its own.
            tolerance: relative, within which a rerun on another machine must reproduce the numbers.
            varies: columns whose numbers differ between machines -> their kind (``register.VARIES``).

        Raises:
            InputError: A tolerance or kind is invalid, or ``varies`` names no column.
        """
        shown = Table(name=name, caption=caption.strip(), element=self.entry.id, tolerance=float(tolerance),
                      varies=varies or None).checked(columns)
        table = [[row.get(c) if isinstance(row, Mapping) else row[i] for i, c in enumerate(columns)] for row in rows]
        datafiles.write_table(self.folder / "data" / self._stem, name, columns, table)
        _display_markdown(markdown_table(columns, (map(cell, row) for row in table)), shown)
        _display_markdown(shown.caption, Caption(name=name, tolerance=shown.tolerance))

    def judge(self, **values: float | str | None) -> list[verdicts.Verdict]:
        """Compare every claim of the element with its bound, show the verdicts in a table, and store the values.

        Args:
            values: claim id -> measured value; None if it was not measured ("not run"); a text if the run does not
                allow a verdict ("not judged"), which says why.
                Ids that are not Python names are passed as ``judge(**{"A2-top": value})``.

        Returns:
            The verdicts, in the register's order.

        Raises:
            RegisterError: A claim is not in the register, or a claim of the element has no value here.
        """
        for name in values:
            self.entry.claim(name)
        missing = [c.id for c in self.entry.claims if c.id not in values]
        if missing:
            raise RegisterError(f"Element {self.entry.id!r}: no value for {', '.join(missing)}; pass None if not run.")
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
            "seconds": round(wall + saved, 2),  # time to compute everything, stored parts included
            "results": [{k: r.get(k) for k in ("experiment", "key", "parameters", "data", "source",
                                               "seconds", "when", "threads", "machine", "device", "reused",
                                               "why")} for r in used],
            "versions": provenance.versions(), "machine": provenance.machine(),
            "threads": provenance.threads(), "commit": provenance.commit(str(self.register.root)),
            "when": provenance.now(),
            # With ``gfm run --stored``, runs that are not stored are left out: the verdicts may be incomplete.
            **({"partial": True} if self._handover.only_stored else {}),
        }


def _display_markdown(text: str, output: Output) -> None:
    _display({"text/markdown": text, "text/plain": text}, output)


def _display(bundle: dict[str, Any], output: Output) -> None:
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        print(bundle["text/plain"])  # a plain script: show what can be read
        return
    from IPython.display import display

    display(bundle, raw=True, metadata=output.metadata())
