"""The affine part of the field, matched in closed form.

With x = (w - w_n) / s in the frame of a prefix and c its context, the field is

    v(x, t | c) = -kappa (x - b'c) + B_t c,

a descent at rate kappa towards the optimum b'c to which the prefix points, and a drive that is linear in the
whole prefix. The first term has the form of gradient descent on a quadratic: a preconditioned step size
(kappa) times the displacement to the optimum. One Euler step per recorded state from x = 0 gives
x_k = g_k b'c + D_k c, with g_k = 1 - (1-kappa)^k, so kappa, b and D are fitted to the recorded states by
least squares.

Why to the states and not to the velocities? Matching an affine field of (x, c) to the velocities at each step
and integrating it gives exactly ordinary least squares of x_k on c (the tower property; derived and
measured in the notebook memoryless-limit), with just as many coefficients. One kappa for all steps needs
far fewer, but if fitted to velocities it is biased: under stochastic gradients x_k contains information about
the optimum beyond that in c. If fitted to the flow's states it is not biased.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

__all__ = ["AffineField"]


@dataclass(frozen=True)
class AffineField:
    """The affine flow x_k = g_k b'c + D_k c.

    Args:
        kappa: rate per recorded state.
        aim: (3,) b, applied to :attr:`Frame.ends`.
        drive: (features, horizon) D, applied to the context given to :meth:`driven`; None for no drive.
        horizon: number of states ahead.
    """

    kappa: float
    aim: np.ndarray
    drive: np.ndarray | None
    horizon: int

    @property
    def size(self) -> int:
        """How many numbers were fitted."""
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
        """(series, horizon) B_t c of each step, the terms that produce the fitted states."""
        if self.drive is None:
            return np.zeros((len(context), self.horizon))
        ahead = np.hstack([np.zeros((len(context), 1)), context @ self.drive])
        return ahead[:, 1:] - (1 - self.kappa) * ahead[:, :-1]

    @classmethod
    def restoring(cls, ends: np.ndarray, later: np.ndarray) -> "AffineField":
        """Fit kappa and b to later states (series, horizon), without a drive.

        For each kappa, b is found by linear least squares; kappa is searched between 1e-4 and 0.5 per step.
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
    ) -> "list[AffineField]":
        """This flow with a drive fitted to its residuals by ridge regression, one flow for every ridge.

        Ridge 0 is plain least squares; infinity means no drive. A single singular value decomposition (float64)
        serves all ridges and horizons.
        """
        rest = later - self.states(ends, context)[:, 1:]
        unit = np.sqrt(np.square(context).mean(axis=0))
        unit[unit == 0] = 1.0
        u, s, vt = np.linalg.svd(context / unit, full_matrices=False)
        projected = u.T @ rest
        kept = s > s[0] * np.finfo(np.float64).eps  # drops linearly dependent columns
        flows = []
        for ridge in ridges:
            if not np.isfinite(ridge):
                flows.append(AffineField(self.kappa, self.aim, None, self.horizon))
                continue
            gain = np.where(kept, s / (s**2 + ridge * len(context) + ~kept), 0.0)
            drive = (vt.T @ (gain[:, None] * projected)) / unit[:, None]
            flows.append(AffineField(self.kappa, self.aim, drive, self.horizon))
        return flows
