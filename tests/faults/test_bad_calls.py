"""Every bad call is refused by one clear sentence of the package, quickly, and leaves files as they are.

`make test` tries a part of the calls of each function, `make faults` all of them. The counts are printed at the end.
"""

import math
import os
from collections import Counter
from pathlib import Path
from time import process_time

import functions_commands
import functions_data
import functions_derived
import functions_forecasters
import functions_learned
import functions_project
import functions_trajectories
import numpy as np
import pytest
from bad_calls import Function, Outcome, judged
from hypothesis import given, settings
from hypothesis import strategies as st

import gfm
from gfm.errors import GfmError

FAMILIES = {
    module.__name__.removeprefix("functions_"): module
    for module in (
        functions_commands, functions_data, functions_derived, functions_forecasters, functions_learned,
        functions_project,
    )
}
#: Of each function's calls, `make test` tries every so manieth, and of each argument the first.
PART = 4


@pytest.fixture
def outcomes(record_property):
    """A list to be filled, whose counts go to the table at the end of the output (tests/tables.py)."""
    made: list[Outcome] = []
    yield made
    record_property("bad calls", [[*pair, n] for pair, n in Counter((o.function, o.verdict) for o in made).items()])


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder of its own, with everything that could be written below it."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"GFM_STORE": "store", "GFM_BUILD": "build"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.delenv("GFM_DATA", raising=False)
    monkeypatch.delenv("GFM_DEVICE", raising=False)
    return tmp_path


def wrong(functions: list[Function], folder: Path, part: int, outcomes: list[Outcome]) -> list[str]:
    """What was not refused as it must be; a valid call that fails is wrong too."""
    found = []
    for function in functions:
        try:
            function.call(**function.valid)
        except GfmError as error:
            found.append(f"{function.name}: its valid call fails: {error}")
            continue
        for number, (case, arguments) in enumerate(function.cases()):
            if part == 1 or number % part == len(function.name) % part:
                outcome = judged(function, case, arguments, folder)
                outcomes.append(outcome)
                if outcome.verdict != "refused":
                    found.append(str(outcome).encode("ascii", "backslashreplace").decode())
    return found


@pytest.mark.no_cover
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", [PART, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_bad_calls_are_refused(here, family, part, outcomes):
    found = wrong(FAMILIES[family].functions(), here, part, outcomes)
    assert len(outcomes) > 100
    assert not found, "\n".join([f"{len(found)} calls were not refused as they must be:", *found[:60]])


NOT_WHOLE = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=20),
    st.binary(max_size=9),
    st.lists(st.integers(), max_size=3),
    st.integers(max_value=-1),
    st.dictionaries(st.text(), st.integers(), max_size=2),
    st.decimals(),
    st.floats(width=32).map(np.float32),
    st.builds(np.array, st.lists(st.floats(), max_size=3)),
)
NOT_POSITIVE = st.one_of(
    st.none(),
    st.booleans(),
    st.complex_numbers(),
    st.text(max_size=20),
    st.binary(max_size=9),
    st.lists(st.floats(), max_size=3),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 10**400, np.float32("inf")]),
    st.floats(max_value=-1e-9),
    st.integers(max_value=0),
    st.builds(np.array, st.lists(st.floats(), min_size=1, max_size=3)),
)
DATA = gfm.Trajectories(functions_trajectories.W)
COUNTED = {
    "data.moons(n)": lambda value: gfm.data.moons(value),
    "data.waves(dims)": lambda value: gfm.data.waves(9, value),
    "nets.mlp(dims)": lambda value: gfm.nets.mlp((2, value)),
    "Training(epochs)": lambda value: functions_forecasters.Training(epochs=value),
    "Settings(cap)": lambda value: gfm.central.Settings(cap=value),
    "Trajectories.prefix": DATA.prefix,
    "Trajectories.every": DATA.every,
    "Trajectories.split": DATA.split,
    "Trajectories.resampled": DATA.resampled,
    "nets.build(width)": lambda value: gfm.nets.build(
        "lstm", size="tiny", input_shape=(8,), outputs=2, vocabulary=4, width=value
    ),
    "central.run(steps)": lambda value: gfm.central.run(
        functions_derived.problem(), gfm.optimizers.GradientDescent(0.1), value
    ),
}
MEASURED = {
    "GradientDescent(lr)": gfm.optimizers.GradientDescent,
    "Adam(lr)": gfm.optimizers.Adam,
    "Training(rate)": functions_forecasters.Training,
    "schedules.Cosine(peak)": lambda value: gfm.optimizers.schedules.Cosine(value, 3),
    "data.waves(frequency)": lambda value: gfm.data.waves(9, frequency=value),
}
DRAWN = 8  # values for each of these functions


@pytest.mark.no_cover
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "call", "values"),
    [
        *((name, call, NOT_WHOLE) for name, call in COUNTED.items()),
        *((name, call, NOT_POSITIVE) for name, call in MEASURED.items()),
    ],
)
def test_drawn_values_are_refused(here, name, call, values, outcomes):
    """The same with values that no table thought of."""
    function = Function(f"drawn: {name}", call)

    @settings(max_examples=DRAWN, deadline=None, derandomize=True, database=None)
    @given(values)
    def tried(value):
        outcome = judged(Function(function.name, lambda: call(value)), f"{value!r:.60}", {}, here)
        outcomes.append(outcome)
        assert outcome.verdict == "refused", str(outcome).encode("ascii", "backslashreplace").decode()

    tried()


class Refusing:
    """Ways to answer a bad call, right and wrong."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, value):
        return self.answer(value)


def busy():
    """Computes for longer than a call may."""
    start = process_time()
    while process_time() < start + 1.1:
        pass
    return True


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda value: _raise(gfm.errors.InputError(f"value must be a number, but it is {value!r}")), "refused"),
        (lambda value: _raise(ValueError("value must be a number")), "raw"),
        (lambda value: _raise(gfm.errors.InputError("no")), "unclear"),
        (lambda value: value, "silent"),
        (
            lambda value: Path("left").write_text("x") and _raise(gfm.errors.InputError("value must be a number")),
            "written",
        ),
        (lambda value: np.ones(16_000_000).any() and _raise(gfm.errors.InputError("value must be a number")), "large"),
        (lambda value: busy() and _raise(gfm.errors.InputError("value must be a number")), "slow"),
    ],
    ids=["refused", "raw", "unclear", "silent", "written", "large", "slow"],
)
def test_the_judge_tells_them_apart(here, answer, verdict):
    if verdict == "large" and not os.path.exists("/proc/self/clear_refs"):
        pytest.skip("this system does not tell a call's memory")
    assert judged(Function("a function", Refusing(answer)), "value: 3", {"value": "3"}, here).verdict == verdict
