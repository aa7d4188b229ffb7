"""The toy project of the tests of the book."""

from book.conftest import no_sphinx, project, ran, whole  # noqa: F401
