"""Exceptions of the package; each message is one sentence that says what was wrong and, if possible, what to do."""

from __future__ import annotations

__all__ = [
    "GfmError", "InputError", "UnknownNameError", "UnreadableFileError", "NotStoredError", "NumericalError",
    "RegisterError",
]


class GfmError(Exception):
    """Base class of every exception that this package raises on purpose."""


class InputError(GfmError, ValueError):
    """A value, shape or dtype is unsuitable."""


class UnknownNameError(GfmError, KeyError):
    """A name (of a process, forecaster, profile, ...) is unknown."""

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0]) if self.args else ""


class UnreadableFileError(GfmError, OSError):
    """A file is missing, truncated, in the wrong format, or belongs to something else."""


class NotStoredError(GfmError):
    """A result is not stored, although only stored results may be used."""


class NumericalError(GfmError, ArithmeticError):
    """A computation produced numbers that are not finite, or did not converge."""


class RegisterError(GfmError):
    """The register of elements is invalid, or does not agree with what a notebook reports."""
