"""A rerun is held against what is committed: words exactly, numbers within what their cell states."""

import base64
import copy
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from reproduction import agree, differences

TESTS = Path(__file__).parents[1]


def png(width=40, height=30, marks=True):
    """A small picture, or a blank one."""
    file = io.BytesIO()
    picture = Image.new("RGB", (width, height), "white")
    if marks:
        picture.paste("black", (5, 5, 15, 15))
    picture.save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


PNG = png()


@pytest.mark.parametrize("one, other, same", [
    ("x is 0.0789", "x is 0.0791", True),
    ("x is 0.0789", "x is 0.0991", False),
    ("x is −5.32·10⁻⁸ |", "x is −5.30·10⁻⁸ |", True),
    ("x is 5.32·10⁻⁸", "x is 5.32·10⁻⁷", False),
    ("| 3.67e-04 ± 1e-04 |", "| 3.63e-04 ± 1e-04 |", True),
    ("| 3.67e-04 |", "| 3.67e-03 |", False),
    ("about 0.3", "about 0.4", True),  # 0.3499 and 0.3501: the last decimal tips
    ("about 0.3", "about 0.5", False),
    ("after 3 steps", "after 4 steps", False),
    ("1,329 weights", "1,330 weights", True),  # within two per cent, as all numbers
    ("**holds** 1", "**fails** 1", False),
    ("below 10⁻⁹", "below 10⁻⁹", True),
    ("below 10⁻⁹", "below 10⁻⁸", False),
    ("below 10⁻⁹", "1.1·10⁻⁹", True),
    ("below 10⁻⁹", "10⁻⁷", False),
    ("1.3·10⁻⁹", "below 10⁻⁹", True),
    ("below 0.01", "−0.001", False),
    ("1, 2", "1, 2, 3", False),
    ("A2 1.0", "A3 1.0", False),
    ("x 1.0", "x -1.0", False),
    ("x is 1.0", "x is not finite", False),
    ('<svg d="M1.0,0.001L300.5,4">', '<svg d="M1.5,0.9L301.0,4">', True),
    ('<svg d="M1.0,0.001L300.5,4">', '<svg d="M9.0,0.9L301.0,4">', False),
])
def test_words_exactly_numbers_nearly(one, other, same):
    assert agree(one, other) is same


@pytest.mark.parametrize("text, other, tolerance, same", [
    ("after 100 steps", "after 104 steps", 0.05, True),
    ("after 100 steps", "after 106 steps", 0.05, False),
    ("it took 3.2 s", "it took 99 s", None, True),
    ("it took 3.2 s", "it took 3.2 h", None, False),
])
def test_the_cell_states_the_tolerance(text, other, tolerance, same):
    assert agree(text, other, tolerance) is same


def markdown(text, **meta):
    return {"output_type": "display_data", "data": {"text/markdown": text, "text/plain": text},
            "metadata": {"gfm": meta}}


def figure(alt="The loss falls to 0.19 at step 120.", **meta):
    data = {"loss": {"shape": [4], "finite": 4, "mean": 2.0, "low": 1.0, "high": 4.0, "last": 1.0},
            "gap": {"shape": [4], "finite": 4, "mean": 2e-9, "low": 1e-9, "high": 4e-9, "last": 1e-9}}
    return {"output_type": "display_data", "data": {"image/png": PNG, "text/plain": "Figure f"},
            "metadata": {"gfm": {"kind": "figure", "alt": alt, "data": data, "tolerance": 0.01,
                                 "varies": {"gap": "residual"}, **meta}}}


TABLE = "| network | loss | seconds |\n|---|---|---|\n| MLP | 0.5 | 3 |\n| CNN | 0.25 | 4 |"
VERDICTS = ("| Claim | | Measured | Value | Bound | Verdict |\n|---|---|---|---|---|---|\n"
            "| A1 | It falls. | rise in 2 steps | 0.5 | at most 1 | **holds** |\n"
            "| A2 | It stays. | excess | 9.5·10⁻⁵ | at most 0.0001 | **holds** |")
OUTPUTS = [
    markdown("The loss is 0.500 after 20 steps.", kind="prose", tolerance=0.02),
    markdown("It took 12 s.", kind="prose", tolerance=0.02, varies="time"),
    markdown(TABLE, kind="table", tolerance=0.1, varies={"seconds": "time"}),
    markdown(VERDICTS, kind="verdicts", tolerance={"A1": 0.1, "A2": 0.02}, varies={"A2": "residual"}),
    figure(),
    {"output_type": "stream", "name": "stdout", "text": "done in 2 parts\n"},
]


def change(number, old, new):
    """A rerun in which one output's text differs."""
    rerun = copy.deepcopy(OUTPUTS)
    output = rerun[number]
    if "text" in output:
        output["text"] = output["text"].replace(old, new)
    elif number == 4:
        output["metadata"]["gfm"]["alt"] = output["metadata"]["gfm"]["alt"].replace(old, new)
    else:
        output["data"] = {kind: text.replace(old, new) for kind, text in output["data"].items()}
    assert rerun != OUTPUTS
    return differences(OUTPUTS, rerun)


@pytest.mark.parametrize("number, old, new", [
    (0, "0.500", "0.509"), (1, "12", "47"), (2, "0.25", "0.27"), (2, "| 4 |", "| 900 |"),
    (3, "| 0.5 |", "| 0.54 |"), (3, "9.5·10⁻⁵", "7.1·10⁻⁵"), (4, "0.19", "0.20"),
])
def test_what_another_machine_may_compute(number, old, new):
    assert change(number, old, new) == []


@pytest.mark.parametrize("number, old, new", [
    (0, "0.500", "0.520"), (0, "20", "21"), (0, "is", "was"), (1, "It took", "It cost"),
    (2, "0.25", "0.29"), (2, "CNN", "ViT"), (2, "\n| CNN | 0.25 | 4 |", ""), (2, "| 4 |", "| |"),
    (2, "seconds", "minutes"), (3, "| 0.5 |", "| 0.7 |"), (3, "**holds** |\n", "**fails** |\n"),
    (3, "at most 0.0001", "at most 0.0002"), (3, "in 2 steps", "in 3 steps"), (3, "A1", "A3"),
    (4, "falls", "rises"), (4, "0.19", "0.29"), (5, "2 parts", "3 parts"), (5, "done in 2 parts\n", ""),
])
def test_what_fails(number, old, new):
    assert change(number, old, new)


def broken(change):
    rerun = copy.deepcopy(OUTPUTS)
    change(rerun)
    return rerun


@pytest.mark.parametrize("fault", [
    lambda r: r.pop(),
    lambda r: r.append(r[0]),
    lambda r: r[4]["data"].pop("image/png"),
    lambda r: r[4]["data"].update({"image/png": ""}),
    lambda r: r[4]["data"].update({"image/png": base64.b64encode(b"no picture").decode()}),
    lambda r: r[4]["data"].update({"image/png": base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()}),
    lambda r: r[4]["data"].update({"image/png": png(marks=False)}),
    lambda r: r[4]["data"].update({"image/png": png(80, 30)}),
    lambda r: r[4]["metadata"]["gfm"]["data"]["loss"].update(high=float("inf")),
    lambda r: r[4]["metadata"]["gfm"]["data"]["loss"].pop("mean"),
    lambda r: r[4]["metadata"]["gfm"].pop("alt"),
    lambda r: r[4]["metadata"]["gfm"].update(alt=""),
    lambda r: r[4]["metadata"]["gfm"].update(tolerance=0.5),
    lambda r: r[4]["metadata"]["gfm"].update(varies={"gap": "residual", "loss": "chaos"}),
    lambda r: r[4]["metadata"]["gfm"]["data"].pop("loss"),
    lambda r: r[4]["metadata"]["gfm"]["data"]["loss"].update(mean=2.1),
    lambda r: r[4]["metadata"]["gfm"]["data"]["loss"].update(last=float("nan")),
    lambda r: r[4]["metadata"]["gfm"]["data"]["loss"].update(finite=3),
    lambda r: r[4]["metadata"]["gfm"]["data"]["gap"].update(shape=[5]),
    lambda r: r[0]["data"].pop("text/plain"),
    lambda r: r[0]["metadata"].pop("gfm"),
    lambda r: r[0].update(output_type="execute_result"),
    lambda r: r[5].update(name="stderr"),
], ids=range(23))
def test_a_fault_in_the_rerun_is_found(fault):
    assert differences(OUTPUTS, broken(fault))
    assert differences(broken(fault), OUTPUTS)


def test_numbers_of_a_kind_that_varies_are_free_in_a_figure():
    rerun = broken(lambda r: r[4]["metadata"]["gfm"]["data"]["gap"].update(mean=7e-9, finite=3))
    assert differences(OUTPUTS, rerun) == []


def test_an_output_that_is_empty_on_both_sides_fails():
    empty = [{"output_type": "stream", "name": "stdout", "text": " \n"}]
    assert differences(empty, empty)


CHANGES = {"as_it_is": ("", ""), "last_digit": ("0.024", "0.0241"), "number": ("0.024", "0.034"),
           "verdict": ("**holds**", "**fails**"), "word": ("31 points", "31 dots")}


def test_nbval_fails_where_a_committed_output_is_not_reproduced(project):
    """Copies of one executed notebook, each with another change in its outputs, in one call of nbval."""
    from gfm.book.runs import execute

    path = project / "notebooks/part/toy.ipynb"
    execute.in_place(path)
    head, outputs = path.read_text().split('"outputs": [', 1)
    for name, (old, new) in CHANGES.items():
        assert old in outputs
        path.with_stem(name).write_text(head + '"outputs": [' + outputs.replace(old, new))
    command = [sys.executable, "-m", "pytest", "-p", "reproduction", "-p", "no:cacheprovider", "-rf",
               "--nbval", "--nbval-current-env", *(str(path.with_stem(name)) for name in CHANGES)]
    env = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "TQDM_DISABLE": "1"}
    run = subprocess.run(command, env=env, cwd=project, capture_output=True, text=True)
    failed = {name for name in CHANGES if f"FAILED notebooks/part/{name}.ipynb" in run.stdout}
    assert run.returncode == 1 and failed == {"number", "verdict", "word"}, run.stdout
