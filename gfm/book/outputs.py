"""What the outputs of an element's notebook say of themselves, in the metadata ``gfm`` of each.

An :class:`~gfm.book.Element` writes it; pages and guards read it. Its keys are ``kind`` (a class's name in small
letters) and the fields below. Committed notebooks hold them, so none may be renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from gfm.book.register import VARIES
from gfm.errors import InputError

__all__ = ["TOLERANCE", "Caption", "Figure", "Output", "Prose", "Table", "Verdicts", "cell", "markdown_table"]

TOLERANCE = 0.02
"""Relative, of a number in printed text."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The part that all kinds share.

    Attributes:
        tolerance: relative, at which a rerun on another machine must reproduce the numbers; for verdicts, of
            each claim by its id.
        varies: what no two machines share -> its kind (``register.VARIES``): names of data, columns of a table,
            ids of claims; a kind alone stands for all numbers of a prose output.
    """

    tolerance: float | Mapping[str, float] | None = None
    varies: str | Mapping[str, str] | None = None

    def metadata(self) -> dict[str, Any]:
        """This as an output's metadata; fields that are None are left out."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return {"gfm": {"kind": type(self).__name__.lower(), **known}}

    @staticmethod
    def read(output: Mapping[str, Any]) -> Output | None:
        """What a notebook's output says of itself; None for one that no element displayed."""
        flag = output.get("metadata", {}).get("gfm")
        if flag is None:
            return None
        kind = {known.__name__.lower(): known for known in Output.__subclasses__()}[flag["kind"]]
        return kind(**{f.name: flag[f.name] for f in fields(kind) if f.name in flag})

    def checked(self, names: Iterable[str] = ()) -> Self:
        """Itself, if what it asks of a rerun makes sense.

        Args:
            names: What ``varies`` may name.

        Raises:
            InputError: A tolerance that is not between 0 and 1, an unknown kind or name of varying numbers.
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
    """A drawing: its label, the finding in words, its caption, and a summary of what was drawn."""

    name: str
    alt: str = ""
    caption: str = ""
    element: str = ""
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Table(Output):
    """A table: its label and caption."""

    name: str
    caption: str = ""
    element: str = ""


@dataclass(frozen=True, kw_only=True)
class Caption(Output):
    """The caption under the figure or table of that name, for those who read the notebook itself."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Prose(Output):
    """Sentences with computed numbers."""


@dataclass(frozen=True, kw_only=True)
class Verdicts(Output):
    """The table of an element's claims."""

    element: str


def cell(text: Any) -> str:
    """A text that may stand in a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def markdown_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; the cells are taken as they are."""
    lines = ["| " + " | ".join(row) + " |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(list(columns)), *lines[1:]])
