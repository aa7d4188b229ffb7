"""Every drawing of the gradient-descent pages takes a small run and draws what it was given."""

import warnings
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from gfm.central import Series
from gfm.errors import InputError
from gfm.experiments.central import quadratics as q
from gfm.experiments.central import valley as v
from gfm.figures import adaptive, atlas, central_flow, edge, panels, plates, predictions, quadratics, valley
from gfm.measures.comparison import smooth
from gfm.measures.edge import Cycle
from gfm.measures.prediction import by_example, most_apart


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from gfm.store.store import Store, obtain

    experiment = v.ValleyRun(steps=60)
    result = obtain(experiment, store=Store(folder=tmp_path_factory.mktemp("store"), committed=()))
    found = v.central.Run.from_arrays(result.arrays, result.info)
    for name in ("discrete", "stable", "central"):
        found[name]["outputs"] = found[name].weights.astype(float)
    found["central"]["predicted_outputs"] = found["central"].outputs
    return found


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def lines(figure) -> int:
    return sum(len(ax.lines) for ax in figure.axes)


def test_quadratics():
    path = q.descend(q.quadratic([[10.0]], [1.0]), 0.15, 5)
    assert lines(quadratics.one_weight({0.15: path}, 10.0, np.array([0.5, 2.5]), np.array([0.5, 1.5]))) >= 5
    path = q.descend(q.quadratic([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), 0.3, 5)
    panel = {
        "title": "t", "H": np.diag([2.0, 1.0]), "path": path, "directions": {"u": (np.array([1.0, 0.0]), "central")}
    }
    assert len(quadratics.two_weights([panel, panel]).axes) == 2


def test_the_valley_and_its_slider(run):
    x, y = np.linspace(-1, 1, 12), np.linspace(-1.7, 0.7, 10)
    loss, sharpness = v.landscape(v.ValleyRun(steps=60), x, y)
    figure = valley.valley(run, x, y, loss, sharpness)
    above = figure.axes[0]
    w = run["discrete"].weights
    (steps,) = (c for c in above.collections if c.get_label().startswith("gradient descent"))
    assert np.allclose(steps.get_segments()[7], w[7:9, ::-1]) and len(steps.get_segments()) == min(run.steps, 150)
    assert np.allclose(above.lines[0].get_ydata(), (w[:-1, 0] + w[1:, 0]) / 2)
    border = np.stack([np.zeros(5), np.linspace(-1, 1, 5)], 1)
    text = valley.valley_slider(run, border, border, "x", "the finding")
    assert text.count("<polyline") == 8 and len(text) < 40_000


def test_learning_rates_and_a_cycle(run):
    assert lines(edge.learning_rates({0.1: run, 0.2: run})) == 6
    assert len(edge.cycle(run, Cycle(20, 30, 45), (5, 55)).axes) == 4


def test_predictions(run):
    data = predictions.many_data(run, 5)
    assert set(data["rank of Sigma"]) == {0, 1}
    assert len(predictions.many(run, 5).axes) == 4
    assert len(predictions.zoom(run, 5, (10, 50), range(2)).axes) == 3
    data = predictions.zoom_data(run, 5, (10, 50), [1])
    assert np.allclose(data["output 1, predicted"], smooth(run["central"].outputs[:, 1], 5)[10:51])


def test_the_central_flow_whole_and_from_near(run):
    assert len(central_flow.central_flow(run, 5).axes) == 4
    data = central_flow.enlarged_data(run, 5, (20, 50))
    assert all(len(values) == 31 for values in data.values())
    figure = central_flow.enlarged(run, 5, (20, 50))
    assert len(figure.axes) == 3 and lines(figure) == 8


def test_a_plate_shows_what_there_is(run):
    titles = [panel.title for panel in plates.plate(run, 5)]
    assert titles[:2] == ["Loss", "Eigenvalues of the effective Hessian"] and "Effective step" not in titles
    assert len(panels.draw(plates.plate(run, 5)).axes) >= len(titles)


def test_one_output_for_each_example(run):
    assert by_example(run, 1) == [int(np.argmax(run["central"].outputs[-1]))]
    assert by_example(run, 2) == [0, 1]
    assert most_apart(run, [0, 1]) in (0, 1)


def test_the_hessians_own_eigenvalues_only_where_the_step_is_one_number(run):
    assert len(adaptive.many(run)) == 3
    other = replace(run, settings={**run.settings, "optimizer": "RMSProp"})
    assert len(adaptive.many(other)) == 2


def test_atlases_keep_each_network_to_its_panel(run):
    runs = {("cnn", 0.1): run, ("vit", 0.1): run, ("vit", 0.05): run}
    figure = atlas.edges(runs, ["cnn", "vit"])
    losses = figure.axes[::2]
    assert [ax.get_title(loc="left") for ax in losses] == ["CNN", "ViT"]
    assert [len(ax.lines) for ax in losses] == [1, 2]
    means = atlas.levels(runs, [2.0, 2.2, float("nan")]).axes[0]
    assert [text.get_text() for text in means.get_yticklabels()] == ["CNN", "ViT"]
    assert sorted(float(line.get_xdata()[0]) for line in means.lines[:3]) == [1.0, 1.0, 1.1]
    assert len(atlas.predictions(runs, ["cnn", "vit"], 5).axes) == 2
    assert "vit lr 0.05: predicted loss" in atlas.curves(runs)
    assert "eigenvalue 1 of the central flow" in atlas.eigenvalues_data(run) and atlas.eigenvalues(run).axes


def test_arrivals_and_drops_are_drawn_around_their_step(run):
    arrival = central_flow.first_burst(run, 10, 40)
    assert [len(panel.curves) for panel in arrival] == [2, 2]
    assert all(curve.x[0] == 10 and curve.x[-1] == 40 for panel in arrival for curve in panel.curves)
    flow, lr = run["central"], run.settings["lr"]
    swing, variance = (curve.y for curve in arrival[0].curves)  # in weights²
    assert swing == pytest.approx(flow.displacement[10:41, 0] ** 2 * lr, nan_ok=True)
    known = flow.sigma[10:41, 0] > 0
    assert known.any() and variance[known] == pytest.approx(flow.sigma[10:41, 0][known] * lr)
    assert np.isnan(variance[~known]).all()
    dropped = predictions.dropped(run, 20, 30)
    assert dropped[0].curves[1].y.tolist() == flow.predicted_loss[:51].tolist()
    assert not np.allclose(dropped[0].curves[1].y, dropped[0].curves[2].y)
    assert [len(panel.curves) for panel in dropped] == [3, 2]
    assert all(curve.x[0] == 0 and curve.x[-1] == 50 for panel in dropped for curve in panel.curves)
    assert len(panels.draw([*arrival, *dropped]).axes) == 4


def test_a_flow_that_is_late_is_drawn_at_equal_steps_and_ways(run):
    late = replace(run, series={name: Series(dict(run[name].items()) | {"effective_step": np.full(61, 0.1)})
                                for name in ("discrete", "central")})
    panel = adaptive.delayed(late, 3.0, 30)
    assert [len(p.curves) for p in panel] == [2, 3] and panel[0].curves[0].x[-1] == 30
    assert panel[0].curves[0].y == pytest.approx(run["central"].displacement[:31, 0] ** 2, nan_ok=True)
    assert panel[1].curves[1].y == pytest.approx(panel[1].curves[2].y, nan_ok=True)  # with equal steps both are one


def test_an_arrival_of_a_flow_that_never_swings_has_no_curves_of_the_swing(run):
    none = {name: np.empty((61, 0)) for name in ("sigma", "displacement")} | {"effective_step": np.full(61, 0.1)}
    calm = replace(run, series={name: Series(dict(series.items()) | none) for name, series in run.series.items()})
    drawn = [*central_flow.first_burst(calm, 10, 40), *adaptive.delayed(calm, 3.0, 30)]
    assert [len(panel.curves) for panel in drawn] == [0, 2, 0, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        panels.draw(drawn).canvas.draw()


def test_the_arrival_takes_the_rate_of_each_step(run):
    falling = np.linspace(0.2, 0.1, 61)
    flow = Series(dict(run["central"].items()) | {"effective_step": falling})
    scheduled = replace(run, series=run.series | {"central": flow},
                        settings={name: value for name, value in run.settings.items() if name != "lr"})
    swing = central_flow.first_burst(scheduled, 10, 40)[0].curves[0].y
    assert swing == pytest.approx((flow.displacement[:, 0] ** 2 * falling)[10:41], nan_ok=True)


def test_steps_that_there_cannot_be_are_refused(run):
    for draw in (
        lambda: central_flow.first_burst(run, -1, 40), lambda: central_flow.first_burst(run, 40, 10),
        lambda: predictions.dropped(run, -20, 30), lambda: predictions.dropped(run, 20, -3),
        lambda: predictions.dropped(run, 20.0, 3), lambda: adaptive.delayed(run, 3.0, -5),
    ):
        with pytest.raises(InputError, match="must be a whole number"):
            draw()
    with pytest.raises(InputError, match="no panels"):
        panels.draw(adaptive.who_holds({}))


def test_who_holds_the_edge_has_a_panel_for_each_memory():
    shares = {0.9: {0.1: (np.arange(3), np.array([0.1, 0.2, 0.3]))}, 0.99: {0.1: (np.arange(2), np.array([0.5, 0.6]))}}
    found = adaptive.who_holds(shares)
    assert [panel.title for panel in found] == ["beta2 = 0.9", "beta2 = 0.99"]
    assert found[1].curves[0].y.tolist() == [50.0, 60.0]
    assert adaptive.who_holds({0.9: {0.1: ([1, 2], [0.1, 0.2])}})[0].curves[0].y == pytest.approx([10.0, 20.0])
