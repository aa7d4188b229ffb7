"""Half vectors: an isometry, inverse to itself, the same in NumPy and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gfm.errors import InputError
from gfm.linalg.symmetric import from_half, half_size, matrix_size, pairs, to_half

numbers = st.floats(-1e3, 1e3, allow_nan=False)


@st.composite
def symmetric(draw, count=1):
    k = draw(st.integers(1, 7))
    out = []
    for _ in range(count):
        a = draw(hnp.arrays(np.float64, (k, k), elements=numbers))
        out.append(a + a.T)
    return out


@settings(deadline=None)
@given(symmetric(count=2))
def test_dot_product_is_the_frobenius_product(matrices):
    a, b = matrices
    reference = np.sum(a * b)
    bound = 1e-12 * (1 + np.sum(np.abs(a * b)))
    assert abs(to_half(a) @ to_half(b) - reference) <= bound


@settings(deadline=None)
@given(symmetric())
def test_round_trip_and_symmetry(matrices):
    (a,) = matrices
    back = from_half(to_half(a))
    np.testing.assert_allclose(back, a, rtol=1e-14, atol=0)
    assert np.array_equal(back, back.T)


@settings(deadline=None)
@given(symmetric())
def test_numpy_and_torch_agree(matrices):
    (a,) = matrices
    half = to_half(torch.from_numpy(a))
    np.testing.assert_array_equal(half.numpy(), to_half(a))
    np.testing.assert_array_equal(from_half(half).numpy(), from_half(to_half(a)))


@given(st.integers(1, 40))
def test_pairs_follow_the_half_vectors_order(k):
    i, j = pairs(k)
    assert len(i) == half_size(k) and matrix_size(half_size(k)) == k
    assert np.all(i <= j)
    # A matrix that holds 1 at (i, j) and (j, i) has its one non-zero entry at that place.
    place = half_size(k) // 2
    a = np.zeros((k, k))
    a[i[place], j[place]] = a[j[place], i[place]] = 1
    assert np.flatnonzero(to_half(a)).tolist() == [place]


def test_batches_dtypes_and_gradients():
    a = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    a = a + a.mT
    half = to_half(a)
    assert half.shape == (2, 5, 6) and half.dtype == torch.float32
    assert to_half(a.numpy()).dtype == np.float32
    torch.testing.assert_close(from_half(half), a)
    assert torch.autograd.gradcheck(from_half, torch.ones(6, dtype=torch.float64).requires_grad_())


def test_wrong_shapes_are_refused():
    with pytest.raises(InputError, match="square"):
        to_half(np.zeros((2, 3)))
    with pytest.raises(InputError, match="half vector"):
        from_half(np.zeros(5))
    with pytest.raises(InputError, match="half vector"):
        from_half(np.array(1.0))
