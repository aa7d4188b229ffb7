"""The data set's own promises: fingerprint, conversion of targets, dtype and masking."""

import dataclasses

import pytest
import torch

from gfm.data import IGNORE, Dataset, one_hot
from gfm.errors import InputError


def tokens():
    return Dataset(
        "tokens",
        inputs=torch.tensor([[0, 1, 2], [2, 1, 0]]),
        targets=torch.tensor([[IGNORE, 1, 2], [IGNORE, 0, 1]]),
        outputs=3,
        vocabulary=3,
    )


def test_fingerprint_depends_on_values_dtype_and_nothing_else():
    a = tokens()
    assert a.fingerprint == tokens().fingerprint and len(a.fingerprint) == 64
    changed = a.targets.clone()
    changed[0, 1] = 2
    assert dataclasses.replace(a, targets=changed).fingerprint != a.fingerprint
    plain = Dataset("x", torch.ones(2, 1), torch.ones(2, 1), outputs=1)
    assert plain.to(torch.float64).fingerprint != plain.fingerprint
    assert dataclasses.replace(plain, name="y").fingerprint == plain.fingerprint


def test_a_data_set_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tokens().name = "other"


def test_indices_stay_integers_when_the_dtype_changes():
    moved = tokens().to(torch.float64)
    assert moved.inputs.dtype == torch.int64 and moved.targets.dtype == torch.int64


def test_one_hot_rows_of_masked_places_are_zero_and_other_classes_are_refused():
    rows = one_hot(tokens().targets, 3)
    assert rows.shape == (2, 3, 3) and rows[:, 0].abs().sum() == 0
    with pytest.raises(InputError, match="0..2"):
        one_hot(torch.tensor([3]), 3)
