"""The normal equations of the linear start, solved as a band."""

import numpy as np
import pytest
import torch

from gfm.matching.linear_start import START_RIDGES, _Banded


@pytest.mark.parametrize("knots", [1, 2, 5])
def test_the_band_is_solved_like_the_whole_matrix(knots):
    rng, width = np.random.default_rng(0), 4
    whole, size = np.zeros((knots * width, knots * width)), knots * width
    for knot in range(max(knots - 1, 1)):  # what is shown between two knots couples these two
        part = slice(knot * width, min((knot + 2) * width, size))
        rows = rng.normal(size=(40, part.stop - part.start))
        whole[part, part] += rows.T @ rows
    whole[2] = whole[:, 2] = 0.0  # a feature that no series shows
    banded = _Banded(knots, width)
    for knot in range(knots):
        for other in (knot, knot - 1)[: 1 + bool(knot)]:
            rows, columns = (slice(k * width, (k + 1) * width) for k in (knot, other))
            banded.add(knot, other, torch.from_numpy(whole[rows, columns]))
    right = whole @ rng.normal(size=size)
    scale = np.sqrt(np.where(np.diag(whole) == 0, 1.0, np.diag(whole)))
    for ridge, found in zip(START_RIDGES, banded.solutions(right, START_RIDGES), strict=True):
        dense = whole + np.diag(np.where(np.diag(whole) == 0, 1.0, ridge * scale**2))
        assert found[2] == 0 and np.allclose(found, np.linalg.solve(dense, right), rtol=1e-9, atol=1e-9)


def test_where_the_equations_are_singular_a_larger_ridge_solves_them():
    banded, ones = _Banded(2, 2), torch.ones(2, 2, dtype=torch.float64)
    for row, column in ((0, 0), (1, 0), (1, 1)):
        banded.add(row, column, ones)
    (found,) = banded.solutions(np.full(4, 4.0), [0.0])
    assert np.isclose(found.sum(), 4.0, rtol=1e-6)
