"""A Sphinx extension: works in the list of references have the labels by which the text cites them."""

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["label", "setup"]


def label(entry: Any) -> str:
    """*Aitken, 1926*, *Regis and Chewi, 2026* or *Cohen et al., 2025*, of an entry as pybtex reads it."""
    names = [" ".join([*person.prelast_names, *person.last_names]) for person in entry.persons["author"]]
    short = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return f"{short}, {entry.fields['year']}".replace("{", "").replace("}", "")


def setup(app: Any) -> dict[str, Any]:
    """Register the style; ``bibtex_default_style = "gfm_cited"`` chooses it."""
    from pybtex.plugin import register_plugin
    from pybtex.style.formatting.plain import Style

    class Labels:
        def __init__(self, **options: Any) -> None:
            pass

        def format_labels(self, entries: Iterable[Any]) -> Iterator[str]:
            return map(label, entries)

    class Cited(Style):
        default_sorting_style = "author_year_title"
        default_label_style = "gfm_cited"

    register_plugin("pybtex.style.labels", "gfm_cited", Labels)
    register_plugin("pybtex.style.formatting", "gfm_cited", Cited)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
