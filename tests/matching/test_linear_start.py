"""The normal equations of the linear start, solved knot by knot."""

import numpy as np
import pytest
import torch

from gfm.errors import NumericalError
from gfm.matching.linear_start import START_RIDGES, _Chain


@pytest.mark.parametrize("knots", [1, 2, 5])
def test_the_chain_of_blocks_is_solved_like_the_whole_matrix(knots):
    rng, width = np.random.default_rng(0), 4
    whole, size = np.zeros((knots * width, knots * width)), knots * width
    for knot in range(max(knots - 1, 1)):  # what is shown between two knots couples these two
        part = slice(knot * width, min((knot + 2) * width, size))
        rows = rng.normal(size=(40, part.stop - part.start))
        whole[part, part] += rows.T @ rows
    whole[2] = whole[:, 2] = 0.0  # a feature that no series shows
    chain, blocks = _Chain(knots, width), torch.from_numpy(whole).reshape(knots, width, knots, width)
    for knot in range(knots):
        chain.diagonal[knot] = blocks[knot, :, knot]
        if knot:
            chain.below[knot - 1] = blocks[knot, :, knot - 1]
    right = whole @ rng.normal(size=size)
    scale = np.sqrt(np.where(np.diag(whole) == 0, 1.0, np.diag(whole)))
    solutions = chain.solutions(torch.from_numpy(right).reshape(knots, width), START_RIDGES).flatten(1).numpy()
    for ridge, found in zip(START_RIDGES, solutions, strict=True):
        dense = whole + np.diag(np.where(np.diag(whole) == 0, 1.0, ridge * scale**2))
        assert found[2] == 0 and np.allclose(found, np.linalg.solve(dense, right), rtol=1e-9, atol=1e-9)


def test_where_the_equations_are_singular_a_larger_ridge_solves_them():
    chain, right = _Chain(2, 2), torch.full((2, 2), 4.0, dtype=torch.float64)
    chain.diagonal[:], chain.below[:] = 1.0, 1.0
    singular, plain = chain.solutions(right, [0.0, 1.0])
    assert np.isclose(singular.sum(), 4.0, rtol=1e-6)
    assert np.isclose(plain.sum(), 16 / 5)  # only the solution that needs it gets a larger one


def test_what_is_not_finite_is_refused_and_no_ridge_is_looked_for():
    chain = _Chain(2, 2)
    chain.diagonal[:] = torch.eye(2)
    chain.below[0, 0, 0] = torch.nan
    with pytest.raises(NumericalError, match="not finite"):
        chain.solutions(torch.ones(2, 2, dtype=torch.float64), [0.0])
