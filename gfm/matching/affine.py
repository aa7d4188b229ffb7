"""The affine part of the field, matched in closed form.

With x = (w - w_n) / s in the frame of a prefix and c its context, the field is

    v(x, t | c) = -kappa (x - b'c) + B_t c,

a descent at rate kappa towards the optimum b'c that the prefix points to, and a drive linear in the
whole prefix. The first term is the optimizer's own form for gradient descent on a quadratic: minus a
step size and preconditioner (kappa) times the way to the optimum. One Euler step per optimizer step
from x = 0 gives x_k = g_k b'c + D_k c, with g_k = 1 - (1-kappa)^k, so kappa, b and D are fitted to the
recorded states by least squares.

Why the states and not the velocities? Matching an affine field of (x, c) to the velocities step by
step and integrating it gives exactly ordinary least squares of x_k on c (the tower property; derived
and measured in the notebook memoryless-limit), with as many coefficients as the whole table. One
kappa for all steps has far fewer, but fitted to velocities it is biased: under stochastic gradients
x_k tells about the optimum beyond what c tells. Fitted to the flow's states it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

__all__ = ["AffineFlow"]


@dataclass(frozen=True)
class AffineFlow:
    """kappa: rate per step. aim: (3,) b. drive: (features, horizon) D, or None for no drive.

    The aim is a map of :attr:`Frame.ends`, the drive one of the context that the flow was :meth:`driven` with.
    """

    kappa: float
    aim: np.ndarray
    drive: np.ndarray | None
    horizon: int

    @property
    def size(self) -> int:
        """Numbers fitted."""
        return 1 + self.aim.size + (0 if self.drive is None else self.drive.size)

    def profile(self) -> np.ndarray:
        """(horizon+1,) g_0..g_horizon."""
        return 1 - (1 - self.kappa) ** np.arange(self.horizon + 1)

    def states(self, ends: np.ndarray, context: np.ndarray) -> np.ndarray:
        """(series, horizon+1) the flow's own states x_0 = 0, x_1, ..."""
        states = np.outer(ends @ self.aim, self.profile())
        if self.drive is not None:
            states[:, 1:] += context @ self.drive
        return states

    def drives(self, context: np.ndarray) -> np.ndarray:
        """(series, horizon) B_t c of each step: what must be added so that the states come out."""
        if self.drive is None:
            return np.zeros((len(context), self.horizon))
        ahead = np.hstack([np.zeros((len(context), 1)), context @ self.drive])
        return ahead[:, 1:] - (1 - self.kappa) * ahead[:, :-1]

    @classmethod
    def restoring(cls, ends: np.ndarray, later: np.ndarray) -> AffineFlow:
        """Fit kappa and b to later states (series, horizon), without a drive.

        b is linear least squares given kappa; kappa is searched between 1e-4 and 0.5 per step.
        """
        steps = np.arange(1, later.shape[1] + 1)
        inverse = np.linalg.pinv(ends)

        def solve(log_kappa: float) -> tuple[float, np.ndarray]:
            g = 1 - (1 - np.exp(log_kappa)) ** steps
            aim = inverse @ (later @ g / (g @ g))
            return float(np.square(later - np.outer(ends @ aim, g)).sum()), aim

        found = minimize_scalar(
            lambda value: solve(value)[0],
            bounds=(np.log(1e-4), np.log(0.5)),
            method="bounded",
            options={"xatol": 1e-12},
        )
        return cls(float(np.exp(found.x)), solve(found.x)[1], None, later.shape[1])

    def driven(
        self, ends: np.ndarray, context: np.ndarray, later: np.ndarray, ridges: np.ndarray
    ) -> list[AffineFlow]:
        """This flow with a ridge drive fitted to what it leaves, one flow for every ridge.

        ridge 0 fits the states exactly where the prefix determines them, infinity means no drive.
        One singular value decomposition (float64) is computed for all ridges and horizons.
        """
        rest = later - self.states(ends, context)[:, 1:]
        unit = np.sqrt(np.square(context).mean(axis=0))
        unit[unit == 0] = 1.0
        u, s, vt = np.linalg.svd(context / unit, full_matrices=False)
        projected = u.T @ rest
        kept = s > s[0] * np.finfo(np.float64).eps  # columns that repeat each other
        flows = []
        for ridge in ridges:
            if not np.isfinite(ridge):
                flows.append(AffineFlow(self.kappa, self.aim, None, self.horizon))
                continue
            gain = np.where(kept, s / (s**2 + ridge * len(context) + ~kept), 0.0)
            drive = (vt.T @ (gain[:, None] * projected)) / unit[:, None]
            flows.append(AffineFlow(self.kappa, self.aim, drive, self.horizon))
        return flows
