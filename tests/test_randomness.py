"""The caller's random numbers go on as if nothing of gfm had drawn any."""

import pytest
import torch
from toys import tiny_problem

import gfm
from gfm.errors import InputError
from gfm.randomness import restoring, seeding


def test_the_same_numbers_each_time_and_the_callers_afterwards():
    before = torch.get_rng_state()
    with seeding(3):
        first = torch.rand(4)
    with seeding(3):
        assert torch.equal(torch.rand(4), first)
    assert torch.equal(torch.get_rng_state(), before)
    own = torch.rand(4)
    torch.set_rng_state(before)
    with restoring():
        assert torch.equal(torch.rand(4), own)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_was_seeded_is_put_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeding(3):
        torch.rand(4)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, "3", None])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(InputError, match="seed"), seeding(seed):
        pass


def test_nothing_seeds_a_gpu_that_does_not_compute(monkeypatch):
    """``torch.manual_seed`` would: the generators of all GPUs, which nobody puts back."""
    seeded, toy = [], tiny_problem(width=3)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: seeded.append(seed))
    monkeypatch.setattr(torch.mps, "manual_seed", lambda seed: seeded.append(seed))
    before = torch.get_rng_state()
    problem = gfm.Problem(toy.module, toy.inputs, toy.targets, "mse")
    gfm.central.run(problem, gfm.optimizers.GradientDescent(lr=0.3), 3, seed=7)
    assert not seeded and torch.equal(torch.get_rng_state(), before)
