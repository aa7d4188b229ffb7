"""The optimizer on mini-batches, with full-batch quantities along its path."""

import shutil

import numpy as np
import pytest
import torch
from toys import tiny_data, tiny_net, tiny_problem

import gfm
from gfm.central import Minibatch, Settings
from gfm.central.minibatch import Batches
from gfm.curvature import dense_hessian
from gfm.errors import InputError, UnreadableFileError
from gfm.optimizers import Adam, GradientDescent, RMSProp

run = gfm.central.run


def drawn(steps, n=10, **options):
    batches = Batches(Minibatch(**options), n)
    return [batches.draw().tolist() for _ in range(steps)]


def test_an_epoch_has_every_example_once():
    for order in ("shuffled", "sequential"):
        batches = drawn(8, batch_size=3, order=order)
        assert [len(b) for b in batches] == [3, 3, 3, 1] * 2
        epochs = sum(batches[:4], []), sum(batches[4:], [])
        assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
        assert (epochs[0] == epochs[1]) == (order == "sequential") == (epochs[0] == list(range(10)))


def test_random_batches_have_different_examples_and_forget_earlier_ones():
    batches = drawn(200, batch_size=6, order="random")
    assert all(len(set(b)) == 6 for b in batches)
    assert any(set(a) & set(b) for a, b in zip(batches, batches[1:], strict=False))
    counts = np.bincount(sum(batches, []), minlength=10)
    assert abs(counts - 120).max() < 5 * np.sqrt(200 * 0.6 * 0.4)


@pytest.mark.parametrize("order", ["shuffled", "random"])
def test_the_seed_alone_decides_on_the_batches(order):
    torch.manual_seed(1)
    first = drawn(5, batch_size=4, order=order, seed=3)
    torch.manual_seed(2)
    assert drawn(5, batch_size=4, order=order, seed=3) == first != drawn(5, batch_size=4, order=order, seed=4)


@pytest.mark.parametrize("n, size", [(1, 1), (3, 1), (32, 16), (500, 32)])
def test_the_default_is_a_part_of_the_examples(n, size):
    assert Minibatch().size(n) == size


def test_a_gradient_on_some_examples_is_that_of_a_problem_with_those():
    x, y = tiny_data()
    examples = torch.tensor([3, 100, 41, 8, 77])
    for options in ({}, {"batch_size": 2}):
        whole = tiny_problem(**options)
        part = gfm.Problem(tiny_net(), x[examples], y[examples])
        before = whole.costs.copy()
        value, gradient = whole.value_and_gradient(whole.w0, examples)
        assert torch.allclose(value, part.loss(whole.w0), rtol=1e-13)
        assert torch.allclose(gradient, part.gradient(whole.w0), rtol=1e-10, atol=1e-14)
        assert whole.costs.since(before).gradients == 5 / 128


def test_the_path_is_that_of_torch_and_the_measurements_are_of_the_full_batch():
    problem, module, (x, y) = tiny_problem(), tiny_net(), tiny_data()
    options = Minibatch(batch_size=24, seed=5)
    rule = RMSProp(lr=0.01, beta2=0.9, eps=1e-3)
    found = run(problem, rule, 8, processes=["minibatch"], minibatch=options, keep_weights=1)["minibatch"]
    optimizer = torch.optim.RMSprop(module.parameters(), lr=0.01, alpha=0.9, eps=1e-3)
    batches = Batches(options, 128)
    for t in range(8):
        w = problem.flat.flatten(module)
        assert np.allclose(found.weights[t], w.numpy(), atol=1e-6)
        assert found.loss[t] == pytest.approx(float(problem.loss(w)), rel=1e-12)
        assert found.gradient_norm2[t] == pytest.approx(float(problem.gradient(w).square().sum()), rel=1e-10)
        batch = batches.draw()
        loss = 0.5 * (module(x[batch]) - y[batch]).square().sum(1).mean()
        assert found.minibatch_loss[t] == pytest.approx(loss.item(), rel=1e-12)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        P = torch.cat([(optimizer.state[q]["square_avg"].sqrt() + 1e-3).flatten() for q in module.parameters()]) / 0.01
        H = dense_hessian(problem, w)
        top = torch.linalg.eigvalsh(H / P.sqrt() / P.sqrt()[:, None])[-1]
        assert found.eigenvalues[t, 0] == pytest.approx(float(top), rel=1e-5)


def test_full_batch_measurements_are_as_rare_as_asked_for_and_costs_are_shares():
    found = run(
        tiny_problem(), GradientDescent(lr=0.1), 6, processes=["minibatch"], minibatch=Minibatch(batch_size=32),
        settings=Settings(eigen_every=3),
    )
    series = found["minibatch"]
    for name in ("loss", "gradient_norm2", "effective_step"):
        assert np.isfinite(series[name]).tolist() == [True, False, False] * 2 + [True]
    assert np.isfinite(series.minibatch_loss).all()
    assert found.costs["minibatch"]["gradients"] == 3 + 7 * 32 / 128
    assert found.settings["minibatch"] == {"batch_size": 32, "order": "shuffled", "seed": 0}


def test_batches_of_all_examples_are_the_discrete_process():
    options = Minibatch(batch_size=128, order="sequential")
    found = run(tiny_problem(), Adam(lr=0.01), 6, processes=["discrete", "minibatch"], minibatch=options)
    assert np.abs(found.distance("discrete", "minibatch")).max() < 1e-12
    assert "minibatch" not in run(tiny_problem(), Adam(lr=0.01), 1, processes=["discrete"]).settings


@pytest.mark.parametrize("order", ["shuffled", "random", "sequential"])
def test_a_resumed_run_draws_the_same_batches(tmp_path, order):
    path = tmp_path / "run.checkpoint"
    options = {"processes": ["minibatch"], "minibatch": Minibatch(batch_size=20, order=order, seed=1)}

    def keep(done, _):
        if done == 7:
            shutil.copy(path, tmp_path / "kept")

    whole = run(tiny_problem(), Adam(lr=0.01), 9, checkpoint=path, checkpoint_every=1, progress=keep, **options)
    shutil.copy(tmp_path / "kept", path)
    rest = run(tiny_problem(), Adam(lr=0.01), 9, checkpoint=path, **options)
    for name, values in whole["minibatch"].items():
        assert np.array_equal(values, rest["minibatch"][name], equal_nan=True), name
    shutil.copy(tmp_path / "kept", path)
    other = {"processes": ["minibatch"], "minibatch": Minibatch(batch_size=20, order=order, seed=2)}
    with pytest.raises(UnreadableFileError, match="another run"):
        run(tiny_problem(), Adam(lr=0.01), 9, checkpoint=path, **other)


def test_a_path_that_diverges_between_measurements_stops():
    with pytest.warns(UserWarning, match="no longer finite"):
        found = run(
            tiny_problem(), GradientDescent(lr=1e6), 40, processes=["minibatch"], settings=Settings(eigen_every=1000)
        )
    assert np.isnan(found["minibatch"].minibatch_loss[-1])


@pytest.mark.parametrize(("options", "words"), [
    ({"batch_size": 0}, "batch_size must"), ({"batch_size": 2.5}, "batch_size must"), ({"order": "best"}, "order must"),
    ({"seed": -1}, "seed must"), ({"batch_size": 129}, "only 128"),
])
def test_impossible_batches_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        run(tiny_problem(), GradientDescent(lr=0.1), 2, processes=["minibatch"], minibatch=Minibatch(**options))


def test_batches_are_refused_where_nothing_uses_them():
    with pytest.raises(InputError, match="does not name the process"):
        run(tiny_problem(), GradientDescent(lr=0.1), 2, processes=["discrete"], minibatch=Minibatch())
    with pytest.raises(InputError, match="gfm.central.Minibatch, but it is a dict"):
        run(tiny_problem(), GradientDescent(lr=0.1), 2, processes=["minibatch"], minibatch={"batch_size": 3})


def test_a_batch_in_which_no_target_counts_stops_the_process():
    x = tiny_data()[0]
    targets = torch.randint(3, (len(x),))
    targets[:20] = -100
    net = torch.nn.Linear(x.shape[1], 3).double()
    problem = gfm.Problem(net, x, targets, torch.nn.CrossEntropyLoss())
    found = run(problem, GradientDescent(lr=0.1), 4, processes=["minibatch"],
                minibatch=Minibatch(batch_size=2, order="sequential"))
    assert any("minibatch stopped at step 0" in note for note in found.notes)
