"""The engine's own derivatives of every network, in float64.

``Problem.third`` and ``Expansion.third`` against differences of the Hessian product, with one copy of the
weights, several copies, and in pieces.
"""

import pytest
import torch
from derivatives import difference, directions, relative

import gfm
from gfm import nets
from gfm.data import digits
from gfm.data.sorting import sorting
from gfm.linalg.symmetric import pairs

BOUND = 1e-6
WAYS = {"copies": {}, "pieces": {"batch_size": 5}}


def problem(name, **options):
    images = name in nets.available("images")
    data = digits(12, 3, dtype=torch.float64) if images else sorting(6, length=3, vocabulary=3)
    module = nets.build(name, data, size="tiny", dtype=torch.float64)
    made = gfm.Problem(module, data.inputs, data.targets, "mse" if images else "cross_entropy", **options)
    stream = torch.Generator().manual_seed(1)
    return made, made.w0 + 0.2 * torch.randn(made.p, generator=stream, dtype=torch.float64)


@pytest.mark.parametrize("name", nets.available())
@pytest.mark.parametrize("way", WAYS)
def test_third_derivatives_are_those_of_the_hessian_product(name, way):
    made, w = problem(name, **WAYS[way])
    U = directions(w)
    point = made.at(w, 2)
    assert point.width == (2 if way == "copies" else 1)  # small enough for a copy of the weights a vector
    expansion = point.expand(U)
    assert relative(expansion.image, made.hvp(w, U.T).T) < 1e-12
    thirds = expansion.third()
    for a, (i, j) in enumerate(zip(*(x.tolist() for x in pairs(2)), strict=True)):
        expected = difference(lambda x, i=i: made.hvp(x, U[i]), w, U[j])
        assert relative(thirds[a], expected) < BOUND, (i, j)
    assert relative(made.third(w, U[0], U[1]), thirds[1]) < 1e-10


@pytest.mark.parametrize("name", nets.available())
def test_pieces_and_copies_agree(name):
    (whole, w), (pieces, _) = problem(name), problem(name, batch_size=5)
    U = directions(w, 3)
    assert relative(pieces.at(w).gradient, whole.at(w, 3).gradient) < 1e-12
    assert relative(pieces.at(w, 3).expand(U).third([0, 2]), whole.at(w, 3).expand(U).third([0, 2])) < 1e-10
    one, three = whole.at(w, 1).expand(U).third(), whole.at(w, 3).expand(U).third()  # copies of the inputs
    assert relative(one, three) < 1e-10
