"""Descent along filtered gradients: the search for the first unstable root, the steps, the runs, small disturbances."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from gfm.errors import InputError
from gfm.experiments.both import filter_roots, filters
from gfm.experiments.both.filter_roots import FirstRoots, first_unstable, roots, track
from gfm.experiments.both.filters import (
    FILTERS,
    PROBLEMS,
    FilterRuns,
    Memories,
    SmallDisturbances,
    edge_of,
)
from gfm.figures.filters import root_paths
from gfm.optimizers.stability import Edge
from gfm.store import Context


def test_the_search_finds_closed_forms():
    assert first_unstable((1.0,), (1.0,)).level == pytest.approx(2.0)
    assert first_unstable((1.0,), (1.0, -0.5), 0.1).level == pytest.approx(1.9 * 1.5)
    turning = first_unstable((0.0, 1.0), (1.0,))
    assert turning.level == pytest.approx(1.0) and turning.period == pytest.approx(6.0)
    assert sorted(abs(roots((1.0,), (1.0, -0.25), 0.0, np.array([0.5]))[0])) == pytest.approx([0.5, 0.5])
    with pytest.raises(InputError, match="Stability"):
        first_unstable((-1.0,), (1.0,))


def test_random_filters_agree_and_a_wrong_function_would_not(monkeypatch):
    run = FirstRoots(filters=12, seed=3)
    found = run.compute(Context()).arrays
    assert found["level"] == pytest.approx(found["searched"], rel=1e-8)
    assert (found["decay"][::2] == 0).all() and (found["decay"][1::2] > 0).all()
    assert 0 < (found["root"][:, 1] > 0).sum() < 12 and np.hypot(*found["root"].T) == pytest.approx(np.ones(12))
    right = filter_roots.edge_of_stability
    monkeypatch.setattr(filter_roots, "edge_of_stability", lambda n, d, decay: Edge(right(n, d).level, -1.0))
    wrong = run.compute(Context()).arrays
    assert abs(wrong["level"] / wrong["searched"] - 1)[1::2].max() > 1e-3


def test_the_path_of_a_root_passes_the_circle_at_the_edge():
    shares = np.linspace(0.8, 1.2, 41)
    for name, (n, d) in FILTERS.items():
        path = track(n, d, shares)
        assert abs(path[20] - edge_of(name).root) < 1e-6 and (path.imag >= 0).all()
        assert (abs(path[:20]) < 1).all() and (abs(path[21:]) > 1).all()


def test_the_steps_are_those_of_filters():
    """Against scipy, all at once; d_0 need not be 1."""
    pairs = [*FILTERS.values(), ((2.0, 1.0), (2.0, -0.4, 0.3))]
    g = np.random.default_rng(0).standard_normal((30, len(pairs), 3))
    memories = Memories(pairs, torch.zeros(len(pairs), 3, dtype=torch.float64))
    found = np.stack([memories.direction(torch.tensor(row)).numpy() for row in g])
    for i, (n, d) in enumerate(pairs):
        assert found[:, i] == pytest.approx(lfilter(n, d, g[:, i], axis=0))


def test_runs_are_those_of_torchs_optimizers():
    rules = ("gradient descent", "heavy ball, 0.5", "Nesterov, 0.9")
    run = FilterRuns("network", rules, (0.0, 0.02), steps=24, every=24, runs=2)
    found, land = run.compute(Context()).arrays, PROBLEMS["network"]()
    assert found["loss"].shape == found["sharpness"].shape == (3, 2, 2, 2) and found["step"].tolist() == [0, 24]
    for i, momentum in enumerate((0.0, 0.5, 0.9)):
        for j, decay in enumerate(run.decays):
            w = land.starts(2, 0)[1].clone().requires_grad_()
            lr, seen = edge_of(run.filters[i]).level / land.sharpness, []
            optimizer = torch.optim.SGD([w], lr=lr, momentum=momentum, nesterov=momentum == 0.9)
            for _ in range(24):
                w.grad = land.gradient(w[None])[0]
                before = w.detach().clone()
                optimizer.step()
                with torch.no_grad():
                    w -= decay * before
                seen.append(w.detach().clone())
            assert found["loss"][i, j, 1, 1] == pytest.approx(float(land.loss(torch.stack(seen).mean(0))))
            assert found["edge"][i, j] == pytest.approx(land.sharpness * (2 - decay) / 2)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_sharpness_and_gradient_belong_to_the_loss(problem):
    land = PROBLEMS[problem]()
    w = land.starts(3, 5)
    H = torch.autograd.functional.hessian(land.loss, w[1])
    assert float(land.top(w)[1]) == pytest.approx(float(torch.linalg.eigvalsh(H)[-1]))
    assert torch.allclose(land.gradient(w)[1], torch.autograd.functional.jacobian(land.loss, w[1]))
    assert (land.top(w) < 0.8 * land.sharpness).all()  # below the edge at the start


def test_the_sharpness_stops_at_the_edge_and_decay_moves_it():
    rules = ("looking ahead", "mean of the last two", "mean of the last four")
    found = FilterRuns("valley", rules, (0.0, 0.1), steps=3000, every=11).compute(Context()).arrays
    late = found["sharpness"][..., -60:].mean((-1, -2))
    assert late == pytest.approx(found["edge"], rel=0.01)
    assert found["edge"][:, 1] / found["edge"][:, 0] == pytest.approx([0.95, 1.0, 1.1031], abs=1e-3)


def test_a_run_that_leaves_is_not_measured():
    found = FilterRuns("valley", ("gradient descent",), steps=60, every=10, share=1000.0).compute(Context()).arrays
    assert np.isfinite(found["sharpness"][..., 0]).all() and np.isnan(found["sharpness"][..., -1]).all()


def test_disturbances_grow_beyond_the_steady_excess_and_a_wrong_one_shows(monkeypatch):
    run = SmallDisturbances(("gradient descent", "heavy ball, 0.5", "one step late"), rate=0.005, length=20.0)
    found = run.compute(Context()).arrays
    assert (found["growth"][:, 0] < -0.5).all() and (found["growth"][:, -1] > 0.5).all()
    assert found["measured"] == pytest.approx(found["excess"], rel=0.02)
    right = filters.steady_excess
    monkeypatch.setattr(filters, "steady_excess", lambda n, d: 1.1 * right(n, d))
    wrong = run.compute(Context()).arrays
    assert wrong["measured"] / wrong["excess"] == pytest.approx(np.full(3, 1 / 1.1), rel=0.02)


def test_the_figure_marks_every_exit():
    paths = {name: track(*FILTERS[name], np.linspace(0.6, 1.2, 31)) for name in FILTERS}
    figure = root_paths(paths, {name: edge_of(name).root for name in paths})
    words = [text.get_text() for text in figure.axes[0].texts]
    assert {f"every {k} steps" for k in (2, 4, 6, 8)} == {word for word in words if word}


@pytest.mark.parametrize(("make", "options"), [
    (FilterRuns, {"problem": "hill"}), (FilterRuns, {"filters": ("none",)}), (FilterRuns, {"steps": 0}),
    (FilterRuns, {"share": 0.0}), (FirstRoots, {"filters": 0}), (FirstRoots, {"ratio": 1.0}),
    (SmallDisturbances, {"filters": ()}), (SmallDisturbances, {"filters": ("looking ahead",)}),
    (SmallDisturbances, {"shares": (1.0,)}), (SmallDisturbances, {"shares": (1.0, 0.5)}),
    (SmallDisturbances, {"rate": 0.0}),
])
def test_impossible_values_are_refused(make, options):
    with pytest.raises(InputError):
        make(**options)
