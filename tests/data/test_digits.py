"""Digits: the paper's selection rule on the embedded data set."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from gfm.data import digits
from gfm.errors import InputError


def test_shapes_normalisation_and_targets():
    data = digits(100, 4, dtype=torch.float64)
    assert data.inputs.shape == (100, 1, 8, 8) and data.inputs.dtype == torch.float64
    assert data.targets.shape == (100, 4) and data.outputs == 4
    assert torch.equal(data.targets.sum(0), torch.full((4,), 25.0, dtype=torch.float64))
    assert abs(data.inputs.mean()) < 1e-12 and abs(data.inputs.std(correction=0) - 1) < 1e-12
    total = int((load_digits().target < 4).sum())
    assert len(data.test_inputs) == total - 100


def test_the_first_of_each_class_are_chosen_and_none_is_in_both_sets():
    data = digits(40, 2, targets="indices")
    raw = load_digits()
    for c in range(2):
        first = raw.images[np.flatnonzero(raw.target == c)[:20]]
        mine = data.inputs[data.targets == c][:, 0].double()
        # Undo the normalisation, which is one affine map for all pixels.
        low, high = mine.min(), mine.max()
        mine = (mine - low) / (high - low) * 16
        mine, first = (sorted(map(tuple, np.round(np.asarray(a)).reshape(20, -1))) for a in (mine, first))
        assert mine == first
    train = {x.numpy().tobytes() for x in data.inputs}
    assert not train & {x.numpy().tobytes() for x in data.test_inputs}


def test_seed_changes_the_order_only():
    a, b = digits(60, 3, seed=0), digits(60, 3, seed=1)
    assert a.fingerprint == digits(60, 3, seed=0).fingerprint != b.fingerprint
    in_a, in_b = (sorted(map(tuple, d.inputs.reshape(60, -1).tolist())) for d in (a, b))
    assert in_a == in_b


def test_signs():
    data = digits(50, 2, targets="signs")
    assert data.targets.shape == (50, 1) and data.outputs == 1
    assert set(data.targets.flatten().tolist()) == {-1.0, 1.0}


def test_noise_shuffles_the_labels_of_a_share_and_nothing_else():
    clean, noisy = (digits(200, 10, targets="indices", noise=share) for share in (0.0, 0.3))
    assert torch.equal(clean.inputs, noisy.inputs) and torch.equal(clean.test_targets, noisy.test_targets)
    assert torch.equal(clean.targets.bincount(), noisy.targets.bincount())  # shuffled among the examples, not drawn
    changed = int((clean.targets != noisy.targets).sum())
    assert 40 <= changed <= 60  # one in ten of the 60 finds its own class again
    assert noisy.fingerprint == digits(200, 10, targets="indices", noise=0.3).fingerprint
    other = digits(200, 10, targets="indices", noise=0.3, seed=1)
    assert not torch.equal(other.targets, noisy.targets)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"n": 3, "classes": 4}, "too small"),
        ({"n": 4000, "classes": 4}, "smaller n"),
        ({"n": 100, "classes": 11}, "impossible"),
        ({"n": 100, "classes": 1}, "impossible"),
        ({"n": 100, "classes": 4, "targets": "words"}, "one_hot"),
        ({"n": 100, "classes": 4, "targets": "signs"}, "two classes"),
        ({"n": 100, "classes": 4, "noise": 1.5}, "from 0 to 1"),
    ],
)
def test_impossible_choices_are_refused(arguments, word):
    with pytest.raises(InputError, match=word):
        digits(**arguments)
