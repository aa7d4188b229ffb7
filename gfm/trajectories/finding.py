"""Which files of a folder are the checkpoints of one run, and at which step each was saved."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from gfm.errors import InputError, UnreadableFileError
from gfm.trajectories.saved import INDEX, SUFFIXES, holds_optimizer, shards_of, suffix_of

__all__ = ["Found", "find", "only_checkpoint"]

_HOW = "say which number is the step with step=, a regular expression with one group"
_COMPANION = re.compile(
    r"^(tmp|optimi[sz]er|optim|(lr_?)?scheduler|(grad_?)?scaler|rng_state|random_states?|training_args|trainer_state)"
    r"(?![a-z])|[^a-z](optimi[sz]er|optim|optim_states|scheduler|scaler|rng_state)([^a-z]*)$"
)
_SHARD = re.compile(r"\d+-of-\d+")
# Names of copies of a state that is also saved under its step; "best" is a copy even if the name has a number.
_COPY = {"best", "last", "latest", "final", "newest"}
_PLAIN = {"model", "pytorch", "adapter", "weights", "checkpoint", "ckpt", "net"}
_DATE = re.compile(
    r"(?<!\d)((19|20)\d\d([-_.]?)(0[1-9]|1[0-2])\3(0[1-9]|[12]\d|3[01])|\d{1,2}([-_.])\d{1,2}\6(19|20)\d\d)(?!\d)"
    r"([t_\- ]+([01]\d|2[0-3])[-_:.h]?[0-5]\d([-_:.]?[0-5]\d)?(?!\d))?"
)
_DECIMAL = re.compile(r"\d+(\.\d+)+(e[-+]?\d+)?|\d+e[-+]\d+")
_LABELS = {
    "step": re.compile(r"(step|iter|iteration|update)s?$|^it$"),
    "checkpoint": re.compile(r"(checkpoint|ckpt|chkpt)s?$"),
    "epoch": re.compile(r"epochs?$|^ep$"),
}
_RUN = re.compile(r"(?<![a-z])(seed|fold|run|rank|trial|split|rep|exp|gpu|bs|lr|wd)[_\-=]?(\d[\d.]*(?:e-?\d+)?)")
_NO_STEP = re.compile(
    r"(loss|acc|accuracy|error|auc|score|reward|iou|psnr|ssim|fid|bleu|ppl|perplexity|mse|mae|rmse|dice)$"
    r"|^(err|map|v|version|f|r|top|val|lr|wd|bs|seed|fold|run|rank|trial|split|rep|exp|gpu|of)$"
)


@dataclass(frozen=True)
class Found:
    """The checkpoints of one run.

    Attributes:
        steps: the step of every checkpoint, increasing.
        files: one for each step; for a checkpoint in shards, its index.
        left_out: names of files that are no states of the run: optimizers', and copies such as ``last.ckpt``.
    """

    steps: tuple[int, ...]
    files: tuple[Path, ...]
    left_out: tuple[str, ...]


def find(folder: Path, pattern: str = "*", step: str | None = None) -> Found:
    """The checkpoints in ``folder`` whose path below it matches the glob ``pattern``.

    Args:
        folder: contains checkpoint files, or folders with one checkpoint each.
        pattern: glob pattern.
        step: regular expression whose one group is the step, searched in the path below ``folder``. By default the
            step is the number after a word for steps, checkpoints or epochs, or the only number that differs.

    Raises:
        UnreadableFileError: The folder is missing, or a folder or an index has no checkpoint.
        InputError: There are fewer than two checkpoints, or their steps are not clear from their names.
    """
    if not folder.is_dir():
        raise UnreadableFileError(f"There is no folder of checkpoints at {folder}.")
    _check(step)

    def numbered(path: Path) -> bool:
        name = path.relative_to(folder).as_posix()
        return bool(_numbers(name)) if step is None else re.search(step, name) is not None

    try:
        entries = sorted(e for e in folder.glob(pattern) if not e.name.startswith("."))
    except (ValueError, NotImplementedError, OSError) as error:  # OSError: a name too long
        raise InputError(f"pattern={pattern!r} is no glob pattern of paths below the folder ({error}).") from None
    files = _units(entries)
    if not any(map(numbered, files)):
        files += _inside([e for e in entries if e.is_dir() and numbered(e)])
    states = _states(files, numbered)
    for file in states:
        if _SHARD.search(file.name):
            raise InputError(f"{file.name} is one shard of a checkpoint, whose index ({INDEX}) is not among the files.")
    names = [file.relative_to(folder).as_posix() for file in states]
    if len(states) < 2:
        seen = [e.name for e in entries if e not in states]
        also = f"; other files there: {', '.join(seen[:4])}{', ...' if len(seen) > 4 else ''}" if seen else ""
        number = ("no checkpoint", "one checkpoint")[len(states)]
        kinds = ", ".join(SUFFIXES)
        raise InputError(f"{folder} holds {number} ({kinds}) that matches {pattern!r}{also}; two are needed.")
    try:
        steps = _steps(names, step)
    except InputError:
        kept = [i for i, file in enumerate(states) if not holds_optimizer(file)]
        if not 2 <= len(kept) < len(states):
            raise
        states, steps = [states[i] for i in kept], _steps([names[i] for i in kept], step)
    order = sorted(range(len(states)), key=lambda i: steps[i])
    out = tuple(file.relative_to(folder).as_posix() for file in files if file not in states)
    return Found(tuple(steps[i] for i in order), tuple(states[i] for i in order), out)


def _check(step: str | None) -> None:
    try:
        groups = 1 if step is None else re.compile(step).groups
    except (re.error, TypeError) as error:
        raise InputError(f"step={step!r} is no regular expression ({error}).") from None
    if groups != 1:
        raise InputError(f"step={step!r} must have one group, the step, as in 'it(\\d+)'; it has {groups}.")


# -- files ---------------------------------------------------------------------------------------
def _units(entries: Iterable[Path]) -> list[Path]:
    """One file per checkpoint: shards are represented by their index."""
    files = [e for e in entries if (suffix_of(e.name) or e.name.endswith(INDEX)) and e.is_file()]
    shards = {shard for file in files if file.name.endswith(INDEX) for shard in shards_of(file)}
    return [file for file in files if file not in shards]


def only_checkpoint(folder: Path) -> Path | None:
    """The one checkpoint in a folder of its own, its index if it is in shards; None if there is none.

    Raises:
        InputError: There are several.
    """
    inside = [f for f in _units(sorted(folder.iterdir())) if not f.name.startswith(".") and not _companion(f)]
    if len(inside) > 1:
        raise InputError(
            f"{folder.name} holds {len(inside)} checkpoints ({inside[0].name}, {inside[1].name}); choose with "
            f"pattern='*/{inside[0].name}'."
        )
    return inside[0] if inside else None


def _inside(folders: Iterable[Path]) -> list[Path]:
    """The one checkpoint in each folder."""
    inside = {f: only_checkpoint(f) for f in folders if not _COMPANION.search(f.name.lower())}
    found = [file for file in inside.values() if file is not None]
    empty = [f.name for f, file in inside.items() if file is None and any(n.label for n in _numbers(f.name))]
    if found and empty:
        raise UnreadableFileError(f"{empty[0]} holds no weights; complete it, or leave it out with pattern=.")
    return found


def _companion(file: Path) -> bool:
    return _COMPANION.search(_stem(file.name).lower()) is not None


def _states(files: Sequence[Path], numbered: Callable[[Path], bool]) -> list[Path]:
    """``files`` without optimizer files and copies, recognised by name."""
    states = [f for f in files if not _companion(f)] or list(files)
    if not any(numbered(f) and not _words(f) & _COPY for f in states):
        return [f for f in states if numbered(f)] or states
    copies = {f for f in states if "best" in _words(f)}
    copies |= {f for f in states if not numbered(f) and (_words(f) & _COPY or _words(f) <= _PLAIN)}
    return [f for f in states if f not in copies]


# -- numbers in names ----------------------------------------------------------------------------
@dataclass(frozen=True)
class _Number:
    value: int
    part: int  # position of its folder or file in the path
    word: str  # the word before it
    joined: int = 0  # its number of digits, if only one sign separates it from the previous number

    @property
    def label(self) -> str:
        return next((label for label, words in _LABELS.items() if words.search(self.word)), "")


def _steps(names: Sequence[str], step: str | None) -> list[int]:
    """The step in each name, all different."""
    if step is None:
        steps = _told(names)
    else:
        matches = [re.search(step, name) for name in names]
        for name, match in zip(names, matches, strict=True):
            if match is None or not re.fullmatch(r"\d+", match[1] or ""):
                raise InputError(f"step={step!r} finds no whole number in {name}; leave that file out with pattern=.")
        steps = [int(match[1]) for match in matches if match]
    first: dict[int, str] = {}
    for name, value in zip(names, steps, strict=True):
        if first.setdefault(value, name) != name:
            raise InputError(f"{first[value]} and {name} both have the step {value}; leave one out with pattern=.")
    return steps


def _told(names: Sequence[str]) -> list[int]:
    """The steps: of the numbers that differ between the names, the best labelled one or the only one."""
    numbers = [_numbers(name) for name in names]
    for name, own in zip(names, numbers, strict=True):
        if not own:
            raise InputError(f"{name} has no number in its name that can be a step; {_HOW}, or choose with pattern=.")
        kinds, first = ([(n.part, n.label) for n in some] for some in (own, numbers[0]))
        if kinds != first or _wording(name) != _wording(names[0]):
            raise InputError(f"{names[0]} and {name} are named in different ways; {_HOW}, or choose with pattern=.")
        for ours, theirs in zip(*(_RUN.findall(_DATE.sub("", n.lower())) for n in (names[0], name)), strict=False):
            if ours != theirs:
                raise InputError(
                    f"By {''.join(ours)} and {''.join(theirs)} in their names, {names[0]} and {name} are of different "
                    f"runs; choose one with pattern=, or {_HOW}."
                )
    columns: dict[tuple[int, ...], tuple[_Number, ...]] = {}
    for column in sorted(zip(*numbers, strict=True), key=lambda c: [*_LABELS, ""].index(c[0].label)):
        columns.setdefault(tuple(n.value for n in column), column)
    differing = [c for values, c in columns.items() if len(set(values)) > 1]
    if not differing:
        raise InputError(f"{names[0]} and {names[1]} have the same step in their names; leave one out with pattern=.")
    best = differing[0]
    rivals = [c for c in differing[1:] if c[0].label == best[0].label or not c[0].label and best[0].label != "step"]
    if rivals:
        raise InputError(
            f"{names[0]} has several numbers that can be the step ({best[0].value}, {rivals[0][0].value}); {_HOW}."
        )
    for left, right in pairwise(zip(*numbers, strict=True)):  # 1_000 may be a thousand, or 1 and 0
        if (left[0].label or left == best) and any(n.joined == 3 or n.joined and right in differing for n in right):
            raise InputError(f"{names[0]} has two numbers in a row, of which one or both can be the step; {_HOW}.")
    for name in names:
        if name.split("/")[: best[0].part] != names[0].split("/")[: best[0].part]:
            raise InputError(f"{names[0]} and {name} lie in different folders; choose one with pattern=.")
    order = sorted(range(len(names)), key=lambda i: best[i].value)
    for column in (c for c in differing if c[0].label):
        for i, j in pairwise(order):
            if column[i].value > column[j].value:
                raise InputError(
                    f"{names[i]} has a smaller {best[0].label or 'number'} than {names[j]}, but a larger "
                    f"{column[0].label}; {_HOW}."
                )
    return [n.value for n in best]


def _numbers(name: str) -> list[_Number]:
    """The whole numbers in a path that can be steps: no dates, decimals, hashes, versions, losses or seeds."""
    found = []
    for i, part in enumerate(_stem(name).split("/")):
        before, last = "", False
        for token in _tokens(part):
            match = re.fullmatch(r"([a-z]*)(\d+)", token)
            word = (match[1] if match else "") or before
            if match and not _NO_STEP.search(word):
                found.append(_Number(int(match[2]), i, word, len(token) if last and token.isdecimal() else 0))
            last = match is not None
            letters = re.sub(r"\d+$", "", token)
            before = before if token in ("num", "number", "no") else letters if letters.isalpha() else ""
    return found


def _tokens(part: str) -> list[str]:
    """Letters and digits that belong together; dates, decimals and negative numbers are replaced."""
    part = re.sub(r"(?<=[=_\-])-\d+", " 0x ", _DECIMAL.sub(" 0x ", _DATE.sub(" 0x ", part.lower())))
    part = re.sub(r"(?<=\d)(?=(steps?|iters?|iterations?|epochs?)(?![a-z]))", "_", part)
    return re.findall(r"[a-z0-9]+", part)


def _wording(name: str) -> list[str]:
    """The words of a name, which the checkpoints of one run share: no hashes, versions, or notes such as "last"."""
    found = (re.fullmatch(r"([a-z]+)\d*", token) for token in _tokens(_stem(name)))
    return [m[1] for m in found if m and m[1] not in _COPY | {"v"} and not re.fullmatch("[a-f]{6,}", m[1])]


def _words(file: Path) -> set[str]:
    return set(re.findall(r"[a-z]+", _stem(file.name).lower()))


def _stem(name: str) -> str:
    name = name.removesuffix(INDEX)
    return name.removesuffix(suffix_of(name))
