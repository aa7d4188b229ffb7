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

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gfm.central import complementarity
from gfm.errors import NumericalError
from gfm.linalg.symmetric import from_half, pairs, scale, to_half
from gfm.optimizers import Optimizer, State
from gfm.problem.derivatives import Point

__all__ = ["Local", "Oscillation", "Rates", "local_flow"]


@dataclass(frozen=True)
class Oscillation:
    """Sigma = U^T X U on the critical directions.

    U: (k, p) rows, P-orthonormal at the step's start. X: (k, k) positive semidefinite.
    N: (k, k) = U P U^T. slack: (k, k), what c P - H in the rows' basis will be after the substep.
    solution: the complementarity solver's certificate.
    """

    U: Tensor
    X: np.ndarray
    N: np.ndarray
    slack: np.ndarray
    solution: complementarity.Solution

    def trace(self) -> float:
        """<P, Sigma>: the number by which oscillation raises the loss, times 2 / threshold."""
        return float(np.sum(self.X * self.N))


@dataclass(frozen=True)
class Rates:
    """Time derivatives at one point of the flow; a unit of time is one optimizer step.

    w: (p,). state: of the optimizer's state. oscillation: None where nothing is critical. nu_push: the
    oscillation's share of the state's rate of nu, of its shape; None where a rule has no nu.
    """

    w: Tensor
    state: State
    oscillation: Oscillation | None
    nu_push: Tensor | None = None


@dataclass(frozen=True)
class Local:
    """All derivatives that a substep from one point needs, whatever its length.

    w_rate, state_rate: of the stable flow. quotients: (candidates,) Rayleigh quotients of P^{-1} H.
    The rest is None where nothing is critical: U (k, p) critical rows; residual (k, k) c P - H in
    their basis now; drift (k, k) its rate under the stable flow; B (m, m) its rate by X; w_push
    (m, p) and nu_push (m, ...) the rates of w and nu by X, all X as half vectors.
    """

    w_rate: Tensor
    state_rate: State
    quotients: np.ndarray
    U: Tensor | None = None
    N: np.ndarray | None = None
    residual: np.ndarray | None = None
    drift: np.ndarray | None = None
    B: np.ndarray | None = None
    w_push: Tensor | None = None
    nu_push: Tensor | None = None

    def rates(self, dt: float) -> Rates:
        """The central flow's rates for a substep of length ``dt``: solves for Sigma.

        Raises:
            NumericalError: no covariance holds the flow at the edge.

        Warns where the covariance was found, but not to the solver's tolerance.
        """
        if self.U is None:
            return Rates(self.w_rate, self.state_rate, None)
        A = self.residual + dt * self.drift
        solution = complementarity.solve(A, dt * self.B)
        X = solution.X
        if not solution.converged and solution.violation > 0.1:
            raise NumericalError(
                "no oscillation can hold the flow at the edge, since the curvature does not fall along its push"
            )
        if not solution.converged:
            warnings.warn(
                "the oscillation covariance was not found to the solver's tolerance; see complementarity_residual",
                stacklevel=2,
            )
        x = to_half(X)
        slack = A + dt * from_half(self.B @ x)
        found = Oscillation(self.U, X, self.N, slack, solution)
        weights = torch.tensor(x, dtype=self.U.dtype, device=self.U.device)
        w_rate, state_rate, nu_push = self.w_rate, self.state_rate, None
        if self.w_push is not None:
            w_rate = w_rate + weights @ self.w_push
        if self.nu_push is not None:
            nu_push = (weights @ self.nu_push).reshape(state_rate.nu.shape)
            state_rate = State(state_rate.t, state_rate.nu + nu_push, state_rate.momentum)
        return Rates(w_rate, state_rate, found, nu_push)


def local_flow(
    point: Point,
    optimizer: Optimizer,
    state: State,
    U: Tensor,
    *,
    rise: np.ndarray | None = None,
    critical_share: float = 0.975,
    curvature_penalty: bool = True,
) -> Local:
    """The derivatives of one substep at ``point``.

    Args:
        U: (candidates, p) rows near the top eigenvectors of P^{-1} H, from the last refresh;
            between refreshes they need be neither eigenvectors nor normalised.
        rise: (candidates,) by how much the quotients are expected to rise in the substep, if known.
        critical_share: directions above this share of the threshold (1.95 of 2), or expected to
            pass the threshold, may carry oscillation; whether they do, the condition decides.
        curvature_penalty: False leaves the term grad <H, Sigma> out of dw/dt (the ablated flow);
            Sigma is then held by the optimizer's state alone.
    """
    P = optimizer.preconditioner(state)
    c = optimizer.threshold
    state_rate = optimizer.rates(state, point.gradient)
    if len(U) == 0:
        return Local(point.gradient / -P, state_rate, np.zeros(0))

    expansion = point.expand(U)
    M = _small(U @ expansion.image.T)
    N = _small((U * P) @ U.T)
    quotients = np.diag(M) / np.diag(N)
    may = quotients > critical_share * c
    if rise is not None:
        may |= quotients + rise > c
    critical = np.flatnonzero(may).tolist()
    if not critical:
        return Local(point.gradient / -P, state_rate, quotients)
    M, N = M[np.ix_(critical, critical)], N[np.ix_(critical, critical)]
    rows = U if len(critical) == len(U) else U[critical]
    i, j = pairs(len(rows))
    half = torch.tensor(scale(len(rows)).copy(), dtype=U.dtype, device=U.device)[:, None]

    # d/dt (c P - H), in the basis of the rows: first under the stable flow, then by X.
    thirds = expansion.third(critical).mul_(half)  # D^3 L[u_i, u_j], (m, p)
    del expansion  # from here on its memory serves the rates
    w_rate = point.gradient / -P
    moved = optimizer.preconditioner_rate(state, state_rate)
    drift = c * _small((rows * moved) @ rows.T) - from_half(_array(thirds @ w_rate))
    B = np.zeros((len(i), len(i)))
    w_push = nu_push = None
    if curvature_penalty:
        root = P**0.5
        thirds.div_(root)
        B += 0.5 * _small(thirds @ thirds.T)
        w_push = thirds.mul_(-0.5).div_(root)
    memory = optimizer.memory(state)
    if memory is not None:
        squares = half * optimizer.observed(rows[i.tolist()], rows[j.tolist()])  # what nu sees of U E_a U^T
        # H u = c P u on critical directions; put so, B is symmetric.
        nu_push = squares * (c**2 * memory.rate * P**2)
        B += c * _small((squares * memory.sensitivity) @ nu_push.T)
    return Local(w_rate, state_rate, quotients, rows, N, c * N - M, drift, B, w_push, nu_push)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()


def _small(matrix: Tensor) -> np.ndarray:
    matrix = _array(matrix)
    return (matrix + matrix.T) / 2
