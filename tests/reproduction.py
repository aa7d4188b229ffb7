"""A pytest plugin: what nbval computes anew is held against the committed outputs, kind by kind.

nbval itself compares text letter by letter, so that a last digit that another processor rounds otherwise
would fail, and it never looks at images or at metadata. Here words are compared exactly (so verdicts, names
and the number of rows are), and numbers as numbers, within the tolerance that stands in the output's
metadata, which its cell wrote there. Numbers of a kind that no two machines share (see
:data:`gfm.book.register.VARIES`) are not compared; the words around them are.
"""

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageStat

from gfm.book.register import TOLERANCE

_DRAWING = 0.01  # of a drawing's largest coordinate
_POWERS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_NUMBER = re.compile(r"(?<![\w.])(?:below )?[-−+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\w|\.\d)")
_COORDINATE = re.compile(r"-?\d+(?:\.\d+)?")
_SIZE = 0.05  # of an image's width and height


def differences(committed: Sequence[Mapping], rerun: Sequence[Mapping]) -> list[str]:
    """Sentences on how a cell's outputs differ from the committed ones; empty where they agree."""
    if len(committed) != len(rerun):
        return [f"{len(rerun)} outputs, where {len(committed)} are committed"]
    found = []
    for number, (old, new) in enumerate(zip(committed, rerun, strict=True), 1):
        found += [f"output {number}: {text}" for text in _output(old, new)]
    return found


def _output(old: Mapping, new: Mapping) -> list[str]:
    for key in ("output_type", "name", "ename"):
        if old.get(key) != new.get(key):
            return [f"{key} is {new.get(key)}, committed {old.get(key)}"]
    rule = _rule(old)
    if _rule(new) != rule:
        return ["its tolerance is another than the committed one"]
    texts, others = _contents(old), _contents(new)
    if set(texts) != set(others):
        return [f"it holds {sorted(others)}, committed {sorted(texts)}"]
    found = []
    for kind, text in texts.items():
        if not text.strip() or not others[kind].strip():
            found.append(f"{kind} is empty")
        elif kind.startswith("image/") and kind != "image/svg+xml":
            found += _image(kind, text, others[kind])
        else:
            found += _text(text, others[kind], rule)
    return found + _metadata(_gfm(old), _gfm(new), rule)


def _contents(output: Mapping) -> dict[str, str]:
    parts = dict(output.get("data", {}))
    parts |= {key: output[key] for key in ("text", "evalue") if key in output}
    return {kind: part if isinstance(part, str) else "".join(part) for kind, part in parts.items()}


def _gfm(output: Mapping) -> Mapping[str, Any]:
    return output.get("metadata", {}).get("gfm", {})


def _rule(output: Mapping) -> dict[str, Any]:
    """What the cell states of its output: kind, tolerance, and which numbers vary."""
    meta = _gfm(output)
    usual = {} if meta.get("kind") == "verdicts" else TOLERANCE
    return {"kind": meta.get("kind"), "tolerance": meta.get("tolerance", usual), "varies": meta.get("varies", {})}


def _image(kind: str, old: str, new: str) -> list[str]:
    """Both can be read, are drawn on, and have nearly the same size (letters are not equally wide everywhere)."""
    sizes = []
    for text in (old, new):
        try:
            with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
                picture.load()
                sizes.append(picture.size)
                blank = all(low == high for low, high in ImageStat.Stat(picture.convert("RGB")).extrema)
        except (ValueError, OSError, SyntaxError):
            return [f"{kind} is no image"]
        if blank:
            return [f"{kind} is blank"]
    if any(abs(a - b) > _SIZE * max(a, b) for a, b in zip(*sizes, strict=True)):
        return [f"{kind} has {sizes[1]} pixels, committed {sizes[0]}"]
    return []


def _text(old: str, new: str, rule: Mapping[str, Any]) -> list[str]:
    """A table's numbers row by row, a verdict's by its claim, any other text as a whole."""
    if old == new:
        return []
    lines, others = old.split("\n"), new.split("\n")
    if len(lines) != len(others):
        return [f"{len(others)} lines, committed {len(lines)}:\n{new}"]
    columns = _cells(lines[0]) if rule["kind"] in ("table", "verdicts") else []
    found = []
    for one, other in zip(lines, others, strict=True):
        pairs = list(zip(_cells(one), _cells(other), strict=False)) if columns else [(one, other)]
        if columns and not len(_cells(one)) == len(_cells(other)) == len(columns):
            found.append(f"a row has other columns:\n  {other}\n  committed\n  {one}")
            continue
        for place, (a, b) in enumerate(pairs):
            tolerance = _tolerance(rule, columns, place, pairs[0][0])
            if not agree(a, b, tolerance):
                found.append(f"{b}\n  where this is committed (tolerance {tolerance}):\n  {a}")
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _tolerance(rule: Mapping[str, Any], columns: list[str], place: int, row: str) -> float | None:
    """The tolerance for a cell, None where its numbers are of a kind that varies."""
    varies, tolerance = rule["varies"], rule["tolerance"]
    if rule["kind"] == "verdicts":
        if columns[place] != "Value":
            return 0.0
        return None if row in varies else dict(tolerance).get(row, TOLERANCE)
    if columns:
        return None if columns[place] in varies else tolerance
    return None if isinstance(varies, str) else tolerance


def agree(one: str, other: str, tolerance: float | None = TOLERANCE) -> bool:
    """Whether two texts have the same words, and numbers that agree (any numbers where tolerance is None).

    Numbers may differ by the tolerance, relative to the larger one, and by one unit of the last decimal
    that is shown, since rounding can tip it (not where the tolerance is 0; whole numbers have no such
    unit). "below x" agrees with "below x", and with numbers up to 2 x.
    """
    if one == other:
        return True
    drawing = "<svg" in one
    number = _COORDINATE if drawing else _NUMBER
    one, other = (text if drawing else _plain(text) for text in (one, other))
    if number.sub("#", one) != number.sub("#", other):
        return False
    if tolerance is None:
        return True
    pairs = list(zip(number.findall(one), number.findall(other), strict=True))
    if drawing:
        scale = _DRAWING * max((abs(float(a)) for a, _ in pairs), default=0.0)
        return all(abs(float(a) - float(b)) <= scale for a, b in pairs)
    return all(_same(a, b, tolerance) for a, b in pairs)


def _same(one: str, other: str, tolerance: float) -> bool:
    (a, unit_a, below_a), (b, unit_b, below_b) = _read(one), _read(other)
    if below_a and below_b:
        return a == b
    if below_a or below_b:
        limit, value = (a, b) if below_a else (b, a)
        return 0 <= value <= 2 * limit
    unit = min(unit_a, unit_b) * (1 + 1e-9) if tolerance else 0.0
    return abs(a - b) <= tolerance * max(abs(a), abs(b)) + unit


def read_number(shown: str) -> tuple[float, float, bool]:
    """Value, unit of the last digit and "below" of a number as a page shows it, such as "below 10⁻⁵"."""
    return _read(_plain(shown))


def _read(text: str) -> tuple[float, float, bool]:
    """A number's value, the unit of its last decimal (0 for a whole number), and whether it says "below"."""
    below = text.startswith("below ")
    digits = text.removeprefix("below ").replace("−", "-")
    mantissa, _, exponent = digits.partition("e")
    decimals = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - decimals) if decimals or exponent else 0.0
    return float(digits), unit, below


def _plain(text: str) -> str:
    """Powers of ten as numbers: 5.3·10⁻⁸ becomes 5.3e-8, and 10⁻⁸ 1e-8."""
    text = re.sub(r"·10([⁻⁰-⁹¹²³]+)", lambda m: "e" + m[1].translate(_POWERS), text)
    return re.sub(r"(?<![\w.])10([⁻⁰-⁹¹²³]+)", lambda m: "1e" + m[1].translate(_POWERS), text)


def _metadata(old: Mapping[str, Any], new: Mapping[str, Any], rule: Mapping[str, Any]) -> list[str]:
    """Alt text, captions and the summary of a figure's data."""
    if set(old) != set(new):
        return [f"its metadata holds {sorted(new)}, committed {sorted(old)}"]
    found = []
    for key in set(old) - {"data", "tolerance", "varies"}:
        if not agree(str(old[key]), str(new[key]), None if isinstance(rule["varies"], str) else _number(rule)):
            found.append(f"{key} is {new[key]!r}, committed {old[key]!r}")
    then, now = old.get("data", {}), new.get("data", {})
    if set(then) != set(now):
        return [*found, f"its data are {sorted(now)}, committed {sorted(then)}"]
    for name in sorted(then):
        found += _series(name, then[name], now[name], None if name in rule["varies"] else _number(rule))
    return found


def _number(rule: Mapping[str, Any]) -> float:
    return rule["tolerance"] if isinstance(rule["tolerance"], float) else TOLERANCE


def _series(name: str, then: Mapping[str, Any], now: Mapping[str, Any], tolerance: float | None) -> list[str]:
    """Shape, count of finite values, mean, low, high and last value of what was drawn."""
    if set(then) != set(now) or not {"shape", "finite"} <= set(then):
        return [f"{name} is described by {sorted(now)}, committed {sorted(then)}"]
    if then["shape"] != now["shape"]:
        return [f"{name} has shape {now['shape']}, committed {then['shape']}"]
    if tolerance is None:
        return []
    if not all(math.isfinite(part[key]) for part in (then, now) for key in set(then) - {"shape"}):
        return [f"{name} is described by numbers that are not finite"]
    if then["finite"] != now["finite"]:
        return [f"{name} has {now['finite']} finite values, committed {then['finite']}"]
    scale = max(abs(then.get("low", 0.0)), abs(then.get("high", 0.0)))
    return [f"{name}: {key} is {now[key]:g}, committed {then[key]:g} (tolerance {tolerance:g})"
            for key in set(then) - {"shape", "finite"}
            if not abs(now[key] - then[key]) <= tolerance * scale]


def pytest_configure(config: Any) -> None:
    """Put this comparison in the place of nbval's own."""
    from nbval import plugin

    def compare_outputs(self: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
        self.comparison_traceback = differences(ref, test)
        return not self.comparison_traceback

    plugin.IPyNbCell.compare_outputs = compare_outputs
    # nbval would measure coverage inside the kernels too, where it waits for an answer that does not come.
    plugin.setup_coverage = plugin.teardown_coverage = lambda *arguments: None
