"""Where a data set's files are: in a folder named by the user, or downloaded and checked."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

from gfm.checks import named_folder, place
from gfm.errors import UnreadableFileError

__all__ = ["FOLDER_VARIABLE", "cache", "locate"]

FOLDER_VARIABLE = "GFM_DATA"
"""Environment variable with a folder in which the loaders look before they download."""


def locate(
    name: str, inner: str, marker: str, folder: str | os.PathLike[str] | None, download: Callable[[], Path]
) -> Path:
    """The folder that contains ``marker``: ``folder`` or its subfolder ``inner``.

    If no ``folder`` is given, the one named by ``GFM_DATA`` is tried, then ``download`` is called, with a
    warning if ``GFM_DATA`` is set but that folder lacks the file.

    Raises:
        UnreadableFileError: The given folder contains no such file, or the download fails or does not match its
            checksum.
    """
    named = named_folder(FOLDER_VARIABLE) if folder is None else place("folder", folder)
    if named:
        for found in (named, named / inner):
            if (found / marker).is_file():
                return found
        if folder is not None:
            raise UnreadableFileError(
                f"The folder {str(named)!r} holds no {marker} of {name}, nor does its subfolder "
                f"{inner}: name the folder with {name}'s files, or none to download them."
            )
        warnings.warn(
            f"The folder {str(named)!r} of {FOLDER_VARIABLE} holds no {marker} of {name}, nor does its "
            f"subfolder {inner}: the files of the download are used instead.",
            stacklevel=3,
        )
    try:
        return download()
    except (OSError, ValueError) as error:  # no connection (an OSError of requests); a wrong checksum
        wrong = "hash" in str(error)
        why = "it does not match its checksum" if wrong else "its host cannot be reached, or the cache not written"
        raise UnreadableFileError(
            f"{name} cannot be downloaded ({why}): put its files into a folder and name that in the environment "
            f"variable {FOLDER_VARIABLE}."
        ) from error


def cache() -> Path:
    """The user's cache folder for downloads."""
    import pooch

    return Path(pooch.os_cache("gfm"))
