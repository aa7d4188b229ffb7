"""The page on modules finds values that are wrong and errors that are raw, wherever they are."""

import pytest
import torch

from gfm.experiments.central.module_cases import LOSSES, MODULES
from gfm.experiments.central.modules import COLUMNS, examine, module_claims
from gfm.problem import Problem, derivative_check, supported

CASES = {case.name: case for case in (*MODULES, *LOSSES)}
TANH = "fully connected, tanh"


def test_names_are_unique():
    assert len(CASES) == len(MODULES) + len(LOSSES)


@pytest.mark.parametrize(("name", "changed", "place"), [("gradient", 1, 2), ("hvp", 2, 3), ("third", 3, 4)])
def test_a_derivative_that_is_a_little_wrong_is_seen(monkeypatch, name, changed, place):
    before = getattr(Problem, name)
    monkeypatch.setattr(Problem, name, lambda *arguments: before(*arguments) * (1 + 1e-7))
    found = examine(CASES[TANH])
    assert [e > 1e-8 for e in found.errors] == [k == changed for k in range(4)]
    assert found.row[1] == "**wrong**" and found.row[place] == "**1e-07**" and len(found.row) == 1 + len(COLUMNS)
    claims = module_claims([found, examine(CASES["fully connected, float32"])])
    assert claims["silent"] == 1 and claims["right"] > 1e-8 and claims["sentence"] == 0


@pytest.mark.parametrize("name", ["layer norm of torch", "weight norm"])
def test_what_is_refused_would_be_wrong(monkeypatch, name):
    assert examine(CASES[name]).row[1] == "refused"
    monkeypatch.setattr(supported, "_UNFIT", {})
    monkeypatch.setattr(derivative_check, "check", lambda *arguments: None)
    assert not examine(CASES[name]).right


def test_raw_errors_are_counted(monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("a raw error")

    monkeypatch.setattr(Problem, "__init__", fails)
    found = examine(CASES[TANH])
    assert found.raw and found.row[1] == "**raw error**" and found.refusal == "a raw error"


def test_random_numbers_stay_as_they_were():
    before = torch.get_rng_state()
    examine(CASES[TANH])
    assert torch.equal(torch.get_rng_state(), before)
