"""Where a data set's files are: a folder the user names, or a checked download."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gfm.errors import UnreadableFileError

__all__ = ["FOLDER_VARIABLE", "cache", "locate"]

FOLDER_VARIABLE = "GFM_DATA"
"""Environment variable with a folder in which the loaders look before they download."""


def locate(
    name: str,
    inner: str,
    marker: str,
    folder: str | os.PathLike[str] | None,
    download: Callable[[], Path],
) -> Path:
    """The folder that holds ``marker``: ``folder`` or its subfolder ``inner``.

    Without a folder the one named by ``GFM_DATA`` is tried, then ``download`` is called.

    Raises:
        UnreadableFileError: the folder was named, but holds no such file.
    """
    named = folder if folder is not None else os.environ.get(FOLDER_VARIABLE)
    if named:
        for place in (Path(named), Path(named) / inner):
            if (place / marker).is_file():
                return place
        if folder is not None:
            raise UnreadableFileError(
                f"The folder {str(named)!r} holds no {marker} of {name}, nor does its subfolder "
                f"{inner}: name the folder with {name}'s files, or none to download them."
            )
    return download()


def cache() -> Path:
    """The user's cache folder for downloads."""
    import pooch

    return Path(pooch.os_cache("gfm"))
