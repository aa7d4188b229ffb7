"""Exceptions of the package: one sentence that says what was wrong and what to do."""

from __future__ import annotations

__all__ = [
    "GfmError",
    "InputError",
    "UnknownNameError",
    "UnreadableFileError",
    "NotStoredError",
    "NumericalError",
    "RegisterError",
]


class GfmError(Exception):
    """Base of every exception that this package raises on purpose."""


class InputError(GfmError, ValueError):
    """A value, shape or dtype that the call cannot use."""


class UnknownNameError(GfmError, KeyError):
    """A name (process, forecaster, profile, ...) that nothing answers to."""

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0]) if self.args else ""


class UnreadableFileError(GfmError, OSError):
    """A file that is missing, truncated, foreign or of the wrong format."""


class NotStoredError(GfmError):
    """A result that is not stored, where only stored ones were asked for."""


class NumericalError(GfmError, ArithmeticError):
    """A computation that left the finite numbers or did not converge."""


class RegisterError(GfmError):
    """The register of elements and what a notebook reports do not fit together."""
