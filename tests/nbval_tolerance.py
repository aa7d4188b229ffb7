"""A pytest plugin: nbval compares words exactly, and numbers within 2 % or 1 % of the text's largest.

nbval itself compares printed text letter by letter, so a last digit that another processor rounds
otherwise would fail. Words, verdicts, the number of numbers and their order must still agree.
"""

from __future__ import annotations

import re
from typing import Any

RELATIVE, ABSOLUTE = 0.02, 0.01
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\w|\.\d)")
_COORDINATE = re.compile(r"-?\d+(?:\.\d+)?")
_POWERS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def agree(one: str, other: str) -> bool:
    """Whether two texts have the same words and nearly the same numbers."""
    if one == other:
        return True
    one, other = _plain(one), _plain(other)
    drawing = "<svg" in one  # only there does the largest number set a scale for the others
    number = _COORDINATE if drawing else _NUMBER
    if number.sub("#", one) != number.sub("#", other):
        return False
    first, second = ([float(x.replace("−", "-")) for x in number.findall(t)] for t in (one, other))
    scale = ABSOLUTE * max(map(abs, first), default=0.0) if drawing else 0.0
    return all(abs(a - b) <= max(RELATIVE * max(abs(a), abs(b)), scale)
               for a, b in zip(first, second, strict=True))


def _plain(text: str) -> str:
    """Powers of ten as in 5.3·10⁻⁸ become 5.3e-8."""
    return re.sub(r"·10([⁻⁰-⁹¹²³]+)", lambda m: "e" + m[1].translate(_POWERS), text)


def _settled(test: Any, reference: Any) -> Any:
    """The new output with the reference's text wherever the two agree."""
    if isinstance(test, str) and isinstance(reference, str):
        return reference if agree(reference, test) else test
    if isinstance(test, dict) and isinstance(reference, dict):
        return type(test)({k: _settled(v, reference.get(k)) for k, v in test.items()})
    return test


def pytest_configure(config: Any) -> None:
    """Put the tolerance before nbval's own comparison."""
    from nbval import plugin

    exact = plugin.IPyNbCell.compare_outputs
    if getattr(exact, "tolerant", False):
        return

    def compare_outputs(self: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
        if len(test) == len(ref):
            test = [_settled(t, r) for t, r in zip(test, ref, strict=True)]
        return exact(self, test, ref, skip_compare)

    compare_outputs.tolerant = True
    plugin.IPyNbCell.compare_outputs = compare_outputs
