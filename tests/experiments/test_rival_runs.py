"""The toy of the rivals, the errors of flows, and what a step of each takes."""

import numpy as np
import pytest
import torch

from gfm.central import Run, Series
from gfm.errors import InputError
from gfm.experiments.both.rivals import PROCESSES, RivalToy, closed_forms, errors, spent
from gfm.measures.comparison import Comparison
from gfm.store import Context


def test_the_toy_is_the_formula():
    toy = RivalToy(sharpness=90.0, rise=20.0, pull=0.05)
    x, y = 0.3, 0.2
    w = torch.tensor([x, y], dtype=torch.float64)
    problem = toy.problem()
    assert float(problem.loss(w)) == pytest.approx((90 + 20 * y) * x**2 / 2 - 0.05 * y)
    assert problem.gradient(w).tolist() == pytest.approx([(90 + 20 * y) * x, 20 * x**2 / 2 - 0.05])
    assert toy.variance == pytest.approx(0.005)


def test_the_central_flow_rests_on_the_toy_where_the_closed_form_says():
    toy = RivalToy(sharpness=99.9, x=0.04, steps=60)
    found = toy.compute(Context())
    run = Run.from_arrays(found.arrays, found.info)
    assert tuple(run.series) == PROCESSES
    central = run["central"]
    assert central.sigma[-1, 0] * toy.lr == pytest.approx(toy.variance, rel=1e-2)
    assert central.weights[-1, 1] == pytest.approx((2 / toy.lr - toy.sharpness) / toy.rise, rel=1e-2)
    cost = spent(run)
    assert cost["rod"][0] == pytest.approx(8, rel=0.1) and cost["rod"][1] == pytest.approx(8, rel=0.1)
    assert cost["edge"][0] == pytest.approx(12, rel=0.1) and cost["edge"][1] == pytest.approx(4, rel=0.1)
    assert cost["discrete"][1] == cost["stable"][1] == 0 and cost["central"][1] > 4


@pytest.mark.parametrize("name", ["rod", "edge"])
def test_the_closed_forms_are_met(name):
    found, known = closed_forms(name)
    assert found == pytest.approx(known, rel=1e-6)
    assert known[-1] == pytest.approx(1 / 3)


def a_run(shift):
    steps = 400
    t = np.arange(steps + 1)
    weights = np.stack([t / 100, 0 * t], 1)
    flow = {"loss": 1.0 + 0 * t, "predicted_loss": 1.1 + 0 * t, "eigenvalues": np.full((steps + 1, 1), 19.0)}
    swing = {"sigma": np.full((steps + 1, 1), 2.0), "displacement": np.full((steps + 1, 1), np.sqrt(2.5))}
    series = {
        "discrete": Series({"loss": 1.0 + 0 * t, "eigenvalues": np.full((steps + 1, 1), 20.0), "weights": weights}),
        "rod": Series({**flow, **swing, "weights": weights + [0, shift]}),
        "stable": Series({"loss": 0.8 + 0 * t, "eigenvalues": flow["eigenvalues"], "weights": weights[:300]}),
    }
    return Run(series, {}, {"threshold": 2.0}, {}), t


def test_errors_are_relative_and_of_the_steps_that_count():
    run, t = a_run(0.3)
    found = errors(Comparison(run, 10.0, (t >= 200) & (t <= 240)))
    expected = {"path": 0.3 / 2.2, "first": 0.3 / 2.0, "loss": 0.1, "sharpness": 0.05, "sigma": 0.2}
    assert found["rod"] == pytest.approx(expected, rel=1e-6)
    assert found["stable"]["loss"] == pytest.approx(0.2) and found["stable"]["sigma"] == 1.0
    assert list(found) == ["rod", "stable"]


def test_a_flow_that_never_reaches_the_edge_has_no_swing():
    run, t = a_run(0.3)
    run["rod"]["sigma"] = run["rod"]["displacement"] = np.empty((len(t), 0))
    assert errors(Comparison(run, 10.0, (t >= 200) & (t <= 240)))["rod"]["sigma"] == 1.0


def test_what_is_not_judged_has_no_errors():
    run, t = a_run(0.3)
    found = errors(Comparison(run, 10.0, t > 0, "too short"))
    assert all(np.isnan(found["rod"][kind]) for kind in ("path", "first", "loss", "sharpness", "sigma"))


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"steps": 0}, {"rise": -1.0}, {"pull": np.inf}])
def test_impossible_values_are_refused(wrong):
    with pytest.raises(InputError):
        RivalToy(**wrong)
