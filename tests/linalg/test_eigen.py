"""Eigen-solvers on matrices whose spectrum is known."""

import pytest
import torch

from gfm.errors import NumericalError
from gfm.linalg import deflation, eigen


def matrix(values, seed=0, dtype=torch.float64):
    p = len(values)
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(p, p, generator=generator, dtype=torch.float64))[0]
    return ((Q * torch.as_tensor(values, dtype=torch.float64)) @ Q.T).to(dtype)


SPECTRUM = [100.0, 80.0, 79.0, 50.0, 40.0, *torch.linspace(20, -30, 295).tolist()]


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_cold_and_warm_find_the_same_known_pairs(dtype, accuracy):
    A = matrix(SPECTRUM, dtype=dtype)
    cold = eigen.lanczos(lambda V: V @ A, 300, 5, like=A)
    noise = torch.randn(5, 300, generator=torch.Generator().manual_seed(1), dtype=dtype)
    warm = eigen.refine(lambda V: V @ A, cold.vectors + 1e-4 * noise)
    for found in (cold, warm, eigen.dense(A, 5)):
        assert found.residuals.max() <= 10 * eigen.default_tolerance(dtype)
        assert torch.allclose(found.values.double(), torch.tensor(SPECTRUM[:5]).double(), rtol=accuracy)
        assert torch.allclose(found.vectors @ found.vectors.T, torch.eye(5, dtype=dtype), atol=1e-5)
        true = (found.vectors @ A - found.values[:, None] * found.vectors).norm(dim=1) / 100
        assert torch.allclose(true, found.residuals, atol=1e-5)
    assert warm.products < cold.products


def test_products_are_counted():
    A, count = matrix(SPECTRUM), 0

    def product(V):
        nonlocal count
        count += V.shape[0]
        return V @ A

    found = eigen.lanczos(product, 300, 3, like=A)
    assert found.products == count
    count = 0
    found = eigen.refine(product, found.vectors + 0.01)
    assert found.products == count


def test_exact_start_costs_one_product_a_vector():
    A = matrix(SPECTRUM)
    exact = eigen.dense(A, 4).vectors
    assert eigen.refine(lambda V: V @ A, exact).products == 4


def test_an_iteration_limit_is_reported_not_hidden(monkeypatch):
    A = matrix(SPECTRUM)
    start = torch.randn(5, 300, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    monkeypatch.setattr(eigen, "MOST_ROUNDS", 1)
    stopped = eigen.refine(lambda V: V @ A, start)
    assert stopped.residuals.max() > 1e-6


@pytest.mark.parametrize("p", [1, 3, 20])
def test_tiny_operators(p):
    A = matrix(list(range(p, 0, -1)))
    found = eigen.lanczos(lambda V: V @ A, p, 1, like=A)
    assert abs(float(found.values[0]) - p) < 1e-9


def test_products_that_are_not_finite_raise():
    like = torch.zeros(50, dtype=torch.float64)
    with pytest.raises(NumericalError):
        eigen.lanczos(lambda V: V * float("nan"), 50, 2, like=like)
    with pytest.raises(NumericalError):
        eigen.refine(lambda V: V * float("nan"), torch.eye(2, 50, dtype=torch.float64))


def test_refine_in_few_dimensions_is_exact():
    """With 2 of 3 directions in the block nothing is left outside it; spurious values came of that."""
    A = matrix([1.9, 0.03, 0.02])
    start = torch.randn(2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = eigen.refine(lambda V: V @ A, start)
    assert torch.allclose(found.values, torch.tensor([1.9, 0.03], dtype=torch.float64), atol=1e-12)
    assert found.residuals.max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_by_one_finds_the_dense_pairs_in_the_memory_of_its_start(dtype):
    A = matrix(SPECTRUM, dtype=dtype)
    exact = eigen.dense(A, 3)
    start = torch.randn(3, 300, dtype=dtype, generator=torch.Generator().manual_seed(5))
    found = deflation.one_by_one(lambda V: V @ A, start, tolerance=1e-5)
    assert found.residuals.max() <= 1e-5 and found.vectors is start
    assert torch.allclose(found.values, exact.values, rtol=1e-5)
    assert torch.allclose((found.vectors @ exact.vectors.T).abs(), torch.eye(3, dtype=dtype), atol=2e-3)
    again = deflation.one_by_one(lambda V: V @ A, start.flip(0).clone(), tolerance=1e-4)
    assert torch.allclose(again.values, exact.values, rtol=1e-5)  # largest first, whatever the start's order
    assert again.products <= 6


def test_one_by_one_says_where_products_are_not_finite():
    with pytest.raises(NumericalError, match="not finite"):
        deflation.one_by_one(lambda V: V * float("nan"), torch.randn(2, 50))


def test_what_lanczos_misses_of_an_eigenvalue_that_occurs_three_times_is_found_from_earlier_vectors():
    # As on a flow that holds three eigenvalues at the edge: they are equal, and the Krylov space converges early.
    spectrum = [2.0, 2.0, 2.0, 1.7, 1.5, 1.35, *(0.5 * 0.8**i for i in range(394))]
    A, count = matrix(spectrum), 0

    def product(V):
        nonlocal count
        count += len(V)
        return V @ A

    cold = eigen.lanczos(product, 400, 6, like=A)
    assert float(cold.values[2]) < 1.9  # if this no longer misses one, take another spectrum
    noise = torch.randn(6, 400, generator=torch.Generator().manual_seed(1), dtype=A.dtype)
    earlier = eigen.dense(A, 6).vectors + 1e-3 * noise
    kept = earlier.clone()
    found = eigen.completed(product, cold, earlier)
    assert torch.allclose(found.values, torch.tensor(spectrum[:6], dtype=A.dtype), atol=1e-8)
    assert found.residuals.max() <= 1e-6 and found.products == count and torch.equal(earlier, kept)
    # Where nothing is missing, the pairs stay as they are.
    before = count
    again = eigen.completed(product, found, earlier)
    assert again.vectors is found.vectors and again.products - found.products == count - before == 6
