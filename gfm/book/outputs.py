"""The metadata ``gfm`` that each output of an element's notebook carries.

An :class:`~gfm.book.Element` writes them; pages and guards read them. Their keys are ``kind`` (a class's name in
lower case) and the fields below. Committed notebooks contain them, so none may be renamed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np

from gfm.book.register import VARIES
from gfm.book.verdicts import show_value
from gfm.errors import InputError

__all__ = ["Caption", "Figure", "Output", "Prose", "Table", "Verdicts", "cell", "markdown_table"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """The fields that all kinds share.

    Attributes:
        tolerance: relative, within which a rerun on another machine must reproduce the numbers; for verdicts,
            claim id -> tolerance.
        varies: what differs between machines (names of data, columns of a table, ids of claims) -> its kind
            (``register.VARIES``); a kind alone applies to all numbers of a prose output.
    """

    tolerance: float | Mapping[str, float] | None = None
    varies: str | Mapping[str, str] | None = None

    def metadata(self) -> dict[str, Any]:
        """The output's metadata; fields that are None are left out."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return {"gfm": {"kind": type(self).__name__.lower(), **known}}

    @staticmethod
    def read(output: Mapping[str, Any]) -> "Output | None":
        """The metadata of a notebook's output; None if no element displayed it."""
        flag = output.get("metadata", {}).get("gfm")
        if flag is None:
            return None
        kind = {known.__name__.lower(): known for known in Output.__subclasses__()}[flag["kind"]]
        return kind(**{f.name: flag[f.name] for f in fields(kind) if f.name in flag})

    def checked(self, names: Iterable[str] = ()) -> Self:
        """Return itself after checking ``tolerance`` and ``varies``.

        Args:
            names: The names that ``varies`` may contain.

        Raises:
            InputError: The tolerance is not between 0 and 1, or a kind or name in ``varies`` is unknown.
        """
        if not isinstance(self.tolerance, (int, float)) or not 0 < self.tolerance < 1:
            raise InputError(f"A tolerance is relative, above 0 and below 1; got {self.tolerance!r}.")
        kinds = {self.varies} if isinstance(self.varies, str) else set((self.varies or {}).values())
        if unknown := kinds - set(VARIES):
            raise InputError(f"Unknown kind {min(unknown)!r} of varying numbers; it is one of {', '.join(VARIES)}.")
        if isinstance(self.varies, Mapping) and (missing := set(self.varies) - set(names)):
            raise InputError(f"Nothing here is called {min(missing)!r}, so its numbers cannot vary.")
        return self


@dataclass(frozen=True, kw_only=True)
class Figure(Output):
    """A figure: its label, alt text and caption, its element, and a summary of the data drawn."""

    name: str
    alt: str = ""
    caption: str = ""
    element: str = ""
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Table(Output):
    """A table: its label, caption and element."""

    name: str
    caption: str = ""
    element: str = ""


@dataclass(frozen=True, kw_only=True)
class Caption(Output):
    """The caption under the figure or table of that name, for readers of the notebook itself."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Prose(Output):
    """Sentences with computed numbers."""


@dataclass(frozen=True, kw_only=True)
class Verdicts(Output):
    """The table of an element's claims."""

    element: str


def cell(value: Any) -> str:
    """A value for a cell of a Markdown table: a number to three digits, nothing for None, text escaped."""
    if isinstance(value, (float, np.floating)):
        return show_value(float(value))
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def markdown_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; cells are not escaped."""
    lines = ["| " + " | ".join(row) + " |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(list(columns)), *lines[1:]])
