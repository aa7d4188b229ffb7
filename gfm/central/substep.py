"""One substep of the central flow, to be read alongside the paper.

The optimizer's iterates are modelled as w(t) + delta with E delta = 0 and E delta delta^T = Sigma.
Averaging the update rule over the oscillation gives

    dw/dt = -P^{-1} [ grad L + 1/2 grad <H, Sigma> ]
    ds/dt = the state's rates at the gradient, plus the oscillation's contribution to the averaged squares

and Sigma is the covariance for which no eigenvalue of P^{-1} H exceeds the threshold c (2
without momentum):   0 <= Sigma  perp  c P - H >= 0.

Decoupled weight decay adds -decay w to dw/dt, and E = (1 - decay / 2) P takes the place of P in the condition; while
a bias correction ends, E is that times the share of the gradient that the momentum has by then (``Optimizer.edge``).

With Sigma = U^T X U on the k critical directions, a substep of length dt linearises the condition,

    0 <= X  perp  A + dt (alpha + beta[X]) >= 0,    A = U (c P - H) U^T,  d/dt A = alpha + beta[X]

so that drift away from the edge is corrected; then w and s move at their rates for this X.

    paper           here                            authors' code (src/flows.py)
    -----           ----                            ----------------------------
    w               where ``point`` is              w
    nu; state s     state.nu; state                 state
    eta             in P                            in opt.P
    P               P                               opt.P(state)
    - (decay)       E = (1 - decay / 2) P           -
    c = 2           c, optimizer.threshold          2
    U               U, rows (k, p)                  U, columns
    lambda          quotients                       eigs
    Sigma; X        Oscillation; X (k, k)           X
    H U             image; c P U inside nu_push     HU = P U eigs
    U H U^T         UHU (k, k)                      diag(eigs)
    U P U^T         UPU (k, k)                      identity
    D^3 L[U, U]     dH_dw (m, p)                    dH_dw
    dw/dt at X = 0  w_rate                          dw_dt_stable
    dw/dt by X      w_push (m, p)                   dw_dt_X
    ds/dt at X = 0  state_rate                      dstate_dt_stable
    dnu/dt by X     nu_push (m, p) or (m, 1)        dstate_dt_X
    dP/dnu          memory.sensitivity              dP_dstate = U^T dP/ds U
    A               residual (k, k)                 A = diag(2 - eigs)
    alpha           alpha (k, k)                    dA_dt_stable
    dP/dt in alpha  E_rate: optimizer.edge_rate     dP_dstate dstate_dt_stable
    beta            B (m, m)                        dA_dt_X
    A + dt (...)    A + dt B x; its value: slack    next_A_stable + next_A_X X

P, its rates and its share E come from the optimizer: its own file in ``gfm/optimizers``, and ``base.py`` there for
``drift``, ``edge_rate`` and ``memory``. H and D^3 L come from ``gfm/problem/derivatives.py``; X from
``complementarity.py``. Formulas stand at the lines that compute them, without numbers of equations, since the paper's
text has several versions.

Symmetric matrices are half vectors (m = k(k+1)/2) whose off-diagonal entries carry sqrt 2, so that inner
products agree; the authors' upper triangles are contracted with weight 2 instead. Two things differ: H u
is c P u here and lambda P u there (ours makes B symmetric), and U P U^T here need not be the identity.

Source: Central Flows (arXiv 2410.24206), general multi-eigenvalue flow; the time-stepping form of
the condition, with the present residual in it, is that of the authors' code.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gfm.central import complementarity
from gfm.central.base import to_numpy
from gfm.errors import NumericalError
from gfm.linalg.symmetric import from_half, pairs, scale, to_half
from gfm.optimizers import Optimizer, State
from gfm.optimizers.base import diagonal
from gfm.problem.derivatives import Derivatives

__all__ = ["Critical", "Local", "Oscillation", "Rates", "local_flow"]


@dataclass(frozen=True)
class Oscillation:
    """Sigma = U^T X U on the critical directions.

    Attributes:
        U: (k, p) rows, P-orthonormal at the step's start.
        X: (k, k) positive semidefinite.
        UPU: (k, k) U P U^T.
        slack: (k, k) U (c P - H) U^T after the substep, to first order.
        solution: the complementarity solver's certificate.
    """

    U: Tensor
    X: np.ndarray
    UPU: np.ndarray
    slack: np.ndarray
    solution: complementarity.Solution

    def trace(self) -> float:
        """<P, Sigma>; the oscillation raises the mean loss by threshold / 2 times this."""
        return float(np.sum(self.X * self.UPU))


@dataclass(frozen=True)
class Rates:
    """Time derivatives at one point of the flow; a unit of time is one optimizer step.

    Attributes:
        w: (p,) rate of the weights.
        state: rate of the optimizer's state.
        oscillation: None if no direction is critical.
        nu_push: the oscillation's part of the rate of nu, of nu's shape; None if the rule has no nu or no
            direction is critical.
    """

    w: Tensor
    state: State
    oscillation: Oscillation | None
    nu_push: Tensor | None = None


@dataclass(frozen=True)
class Local:
    """All derivatives needed for a substep of any length from one point, if no direction is critical.

    Attributes:
        w_rate, state_rate: rates of the stable flow.
        quotients: (candidates,) Rayleigh quotients of P^{-1} H.
    """

    w_rate: Tensor
    state_rate: State
    quotients: np.ndarray

    def rates(self, dt: float) -> Rates:
        """The central flow's rates for a substep of length ``dt``."""
        return Rates(self.w_rate, self.state_rate, None)


@dataclass(frozen=True)
class Critical(Local):
    """The derivatives if there are critical directions, by their names in the module's table.

    ``w_push`` and ``nu_push`` have a row for each entry of X as a half vector; the first is None without curvature
    penalty, the second if the rule has no nu.
    """

    U: Tensor
    UPU: np.ndarray
    residual: np.ndarray
    alpha: np.ndarray
    B: np.ndarray
    w_push: Tensor | None
    nu_push: Tensor | None

    def rates(self, dt: float) -> Rates:
        """Solve for Sigma and return the rates for a substep of length ``dt``.

        Warns if Sigma was not found to the solver's tolerance.

        Raises:
            NumericalError: No covariance holds the flow at the edge, or its curvature is no longer finite.
        """
        # 0 <= X  perp  (A + dt alpha) + dt beta[X] >= 0
        A = self.residual + dt * self.alpha
        if not (np.isfinite(A).all() and np.isfinite(self.B).all()):
            raise NumericalError("The curvature along the flow is no longer finite.")
        solution = complementarity.solve(A, dt * self.B)
        if not solution.converged and solution.violation > 0.1:
            raise NumericalError(
                "No oscillation can hold the flow at the edge: the curvature does not fall where it pushes the weights."
            )
        if not solution.converged:
            warnings.warn(
                "the oscillation covariance was not found to the solver's tolerance; see complementarity_residual",
                stacklevel=2,
            )
        x = to_half(solution.X)
        slack = A + dt * from_half(self.B @ x)
        found = Oscillation(self.U, solution.X, self.UPU, slack, solution)
        # dw/dt = (dw/dt at X = 0) + (dw/dt by X) x, and likewise for nu
        weights = torch.tensor(x, dtype=self.U.dtype, device=self.U.device)
        w_rate, state_rate, nu_push = self.w_rate, self.state_rate, None
        if self.w_push is not None:
            w_rate = w_rate + weights @ self.w_push
        if self.nu_push is not None and state_rate.nu is not None:
            nu_push = (weights @ self.nu_push).reshape(state_rate.nu.shape)
            state_rate = replace(state_rate, nu=state_rate.nu + nu_push)
        return Rates(w_rate, state_rate, found, nu_push)


def local_flow(
    point: Derivatives, optimizer: Optimizer, state: State, U: Tensor, *, rise: np.ndarray | None = None,
    critical_share: float = 0.975, curvature_penalty: bool = True,
) -> Local:
    """The derivatives of one substep at ``point``, in time units of one optimizer step.

    Args:
        point: the weights with the loss's derivatives there.
        optimizer: the rule.
        state: its state, with nu as it is after the step's update.
        U: (candidates, p) rows close to the top eigenvectors of P^{-1} H;
            between refreshes they need not be eigenvectors or normalised.
        rise: (candidates,) expected rise of the quotients in the substep, if known.
        critical_share: directions above this share of the threshold (1.95 for a threshold of 2), or expected to
            exceed the threshold, may oscillate; the complementarity condition decides which do.
        curvature_penalty: False leaves the term grad <H, Sigma> out of dw/dt (the ablated flow);
            then only the optimizer's state holds the flow at the edge.
    """
    P, share = diagonal(optimizer.preconditioner(state)), optimizer.edge_share(state)
    E = P if share is None else share * P
    c = optimizer.threshold
    state_rate = optimizer.rates(state, point.gradient)
    # With weight decay or a bias correction, read E for P below, except in P^{-1}.
    if len(U) == 0:
        return Local(optimizer.drift(point.w, state, point.gradient), state_rate, np.zeros(0))

    # lambda_i = u_i^T H u_i / u_i^T P u_i
    expansion = point.expand(U)
    UHU, UPU = _small(U @ expansion.image.T), _small((U * E) @ U.T)
    quotients = np.diag(UHU) / np.diag(UPU)
    may = quotients > critical_share * c
    if rise is not None:
        may |= quotients + rise > c
    critical = np.flatnonzero(may).tolist()
    if not critical:
        return Local(optimizer.drift(point.w, state, point.gradient), state_rate, quotients)
    UHU, UPU = UHU[np.ix_(critical, critical)], UPU[np.ix_(critical, critical)]
    rows = U if len(critical) == len(U) else U[critical]
    i, j = pairs(len(rows))
    half = torch.tensor(scale(len(rows)).copy(), dtype=U.dtype, device=U.device)[:, None]

    # dH/dw = D^3 L[u_i, u_j] for i <= j, (m, p)
    dH_dw = expansion.third(critical).mul_(half)
    del expansion  # frees its memory for the rates
    # dw/dt = -P^{-1} grad L
    w_rate = optimizer.drift(point.w, state, point.gradient)
    # alpha = c U (dP/dt) U^T - D^3 L[u_i, u_j] . dw/dt
    E_rate = optimizer.edge_rate(state, state_rate)
    alpha = c * _small((rows * E_rate) @ rows.T) - from_half(to_numpy(dH_dw @ w_rate))
    B = np.zeros((len(i), len(i)))
    w_push: Tensor | None = None
    nu_push: Tensor | None = None
    if curvature_penalty:
        # dw/dt by X = -1/2 P^{-1} D^3 L[u_i, u_j];  beta = 1/2 D^3 L P^{-1} D^3 L^T  (in place: p is large)
        root = P**0.5
        dH_dw.div_(root)
        B += 0.5 * _small(dH_dw @ dH_dw.T)
        w_push = dH_dw.mul_(-0.5).div_(root)
    memory = optimizer.memory(state)
    if memory is not None:
        # dnu/dt by X = (1 - beta2) / beta2 (H u_i)(H u_j) with H u = c P u;  beta += c U (dP/dnu)(dnu/dt by X) U^T
        squares = half * optimizer.observed(rows[i.tolist()], rows[j.tolist()])  # u_i u_j, averaged like nu's squares
        nu_push = squares * (c**2 * memory.rate * E**2)
        sensitivity = memory.sensitivity if share is None else memory.sensitivity * share
        B += c * _small((squares * sensitivity) @ nu_push.T)
    # A = U (c P - H) U^T
    return Critical(w_rate, state_rate, quotients, rows, UPU, c * UPU - UHU, alpha, B, w_push, nu_push)


def _small(matrix: Tensor) -> np.ndarray:
    """A (k, k) matrix made exactly symmetric, in float64."""
    small = to_numpy(matrix)
    return (small + small.T) / 2
