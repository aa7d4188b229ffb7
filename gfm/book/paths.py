"""Paths: the project's root, and the build folder, which has a subfolder for each profile."""

from pathlib import Path

from gfm.checks import named_folder, place
from gfm.errors import RegisterError
from gfm.store.store import project

__all__ = ["CUSTOM", "PROFILES", "base_profile", "build_folder", "project_root"]

PROFILES = ("smoke", "book", "paper")
"""From quick to complete; a page shows the last of these that has been run."""
CUSTOM = "custom-"
"""Before the profile's name if parameters were changed."""


def base_profile(profile: str) -> str:
    """The profile whose parameters were changed, or the profile itself."""
    return profile.removeprefix(CUSTOM)


def project_root(start: Path | str | None = None) -> Path:
    """The folder at or above ``start`` (default: the current one) that contains ``book/elements.yml``.

    Raises:
        RegisterError: There is none.
    """
    here = (Path.cwd() if start is None else place("The project's folder", start)).resolve()
    if (root := project(here)) is None:
        raise RegisterError(
            f"No book/elements.yml at or above {here.name or here}; run this inside the project's folder."
        )
    return root


def build_folder(root: Path) -> Path:
    """``$GFM_BUILD``, or ``build`` in the project.

    Raises:
        InputError: The variable does not name a folder by its absolute path.
    """
    return (named_folder("GFM_BUILD") or root / "build").resolve()
