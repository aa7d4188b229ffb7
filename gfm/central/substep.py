"""One substep of the central flow.

The optimizer's iterates are modelled as w(t) + delta with E delta = 0 and E delta delta^T = Sigma.
Averaging the update rule over the oscillation gives

    dw/dt = -P^{-1} [ grad L + 1/2 grad <H, Sigma> ]
    ds/dt = the state's rates at the gradient, plus what oscillation adds to the squares it averages

and Sigma is the one covariance for which no eigenvalue of P^{-1} H passes the threshold c (2
without momentum):   0 <= Sigma  perp  c P - H >= 0.

Source: Central Flows (arXiv 2410.24206), general multi-eigenvalue flow; the time-stepping form of
the condition, with the present residual in it, is that of the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gfm.central import complementarity
from gfm.errors import NumericalError
from gfm.optimizers import Optimizer, State
from gfm.point import Point
from gfm.symmetric import from_half, pairs, scale

__all__ = ["Oscillation", "Rates", "flow_rates"]


@dataclass(frozen=True)
class Oscillation:
    """Sigma = U^T X U on the critical directions.

    U: (k, p) rows, P-orthonormal at the step's start. X: (k, k) positive semidefinite.
    N: (k, k) = U P U^T. solution: the complementarity solver's certificate.
    """

    U: Tensor
    X: np.ndarray
    N: np.ndarray
    solution: complementarity.Solution

    def trace(self) -> float:
        """<P, Sigma>: the number by which oscillation raises the loss, times 2 / threshold."""
        return float(np.sum(self.X * self.N))


@dataclass(frozen=True)
class Rates:
    """Time derivatives at one point of the flow; a unit of time is one optimizer step.

    w: (p,). state: of the optimizer's state. oscillation: None where nothing is critical.
    top: largest Rayleigh quotient of P^{-1} H among the directions tried (nan: none tried).
    """

    w: Tensor
    state: State
    oscillation: Oscillation | None
    top: float


def flow_rates(
    point: Point,
    optimizer: Optimizer,
    state: State,
    U: Tensor,
    dt: float,
    *,
    critical_share: float = 0.975,
    curvature_penalty: bool = True,
) -> Rates:
    """The central flow's rates at ``point`` for a substep of length ``dt``.

    Args:
        U: (k, p) rows near the top eigenvectors of P^{-1} H, from the last refresh; between
            refreshes they need be neither eigenvectors nor normalised.
        critical_share: directions above this share of the threshold enter Sigma (1.95 of 2).
        curvature_penalty: False leaves the term grad <H, Sigma> out of dw/dt (the ablated flow);
            Sigma is then held by the optimizer's state alone.
    """
    P = optimizer.preconditioner(state)
    c = optimizer.threshold
    w_rate = -point.gradient / P
    state_rate = optimizer.rates(state, point.gradient)
    if len(U) == 0:
        return Rates(w_rate, state_rate, None, float("nan"))

    expansion = point.expand(U)
    M = _small(U @ expansion.image.T)
    N = _small((U * P) @ U.T)
    quotients = np.diag(M) / np.diag(N)
    top = float(quotients.max())
    critical = np.flatnonzero(quotients > critical_share * c).tolist()
    if not critical:
        return Rates(w_rate, state_rate, None, top)
    M, N = M[np.ix_(critical, critical)], N[np.ix_(critical, critical)]
    chosen = U[critical]
    k = len(critical)
    i, j = pairs(k)
    half = torch.tensor(scale(k), dtype=U.dtype, device=U.device)[:, None]
    memory = optimizer.memory(state)

    # The residual c P - H after the substep is A + B[X], in the basis of the chosen rows.
    drift = optimizer.preconditioner_rate(state, state_rate)
    A = c * N - M + dt * c * _small((chosen * drift) @ chosen.T)
    thirds = half * expansion.third(critical)  # D^3 L[u_i, u_j], (m, p)
    A -= dt * from_half(_array(thirds @ w_rate))
    B = np.zeros((len(i), len(i)))
    if curvature_penalty:
        B += 0.5 * dt * _small((thirds / P) @ thirds.T)
    if memory is not None:
        squares = half * optimizer.observed(chosen[i], chosen[j])  # U E_a U^T seen by nu
        # H u = c P u on critical directions; with it B is symmetric.
        lift = c**2 * memory.rate * P**2
        B += dt * c * _small((squares * (memory.sensitivity * lift)) @ squares.T)
    solution = complementarity.solve(A, B)
    X = solution.X
    if not np.isfinite(X).all():
        raise NumericalError("the oscillation covariance is not finite; the flow has diverged")
    x = torch.as_tensor(X[i, j] * scale(k), dtype=U.dtype, device=U.device)
    if curvature_penalty:
        w_rate = w_rate - 0.5 * (x @ thirds) / P
    if memory is not None:
        extra = (x @ squares) * lift
        state_rate = State(state_rate.t, state_rate.nu + extra.reshape(state_rate.nu.shape), state_rate.momentum)
    return Rates(w_rate, state_rate, Oscillation(chosen, X, N, solution), top)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()


def _small(matrix: Tensor) -> np.ndarray:
    matrix = _array(matrix)
    return (matrix + matrix.T) / 2
