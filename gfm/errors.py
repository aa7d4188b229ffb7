"""Exceptions of the package; each message is one sentence that says what was wrong and, if possible, what to do."""

__all__ = [
    "GfmError", "InputError", "UnknownNameError", "UnreadableFileError", "NotStoredError", "NumericalError",
    "RegisterError", "said",
]

#: The most characters of a message.
LONGEST = 500


class GfmError(Exception):
    """Base class of every exception that this package raises on purpose."""

    def __str__(self) -> str:
        """The message on one line; the middle of a very long one is left out, since it may contain long values."""
        text = " ".join(str(self.args[0] if self.args else "").split())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 150]} ... {text[-140:]}"


def said(error: Exception) -> str:
    """The first line of an error's message without its period, to be part of another message."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(". ")


class InputError(GfmError, ValueError):
    """A value, shape or dtype is unsuitable."""


class UnknownNameError(GfmError, KeyError):
    """A name (of a process, forecaster, profile, ...) is unknown."""


class UnreadableFileError(GfmError, OSError):
    """A file is missing, truncated, in the wrong format, or belongs to something else."""


class NotStoredError(GfmError):
    """A result is not stored, although only stored results may be used."""


class NumericalError(GfmError, ArithmeticError):
    """A computation produced numbers that are not finite, or did not converge."""


class RegisterError(GfmError):
    """The register of elements is invalid, or does not agree with what a notebook reports."""
