"""Weight trajectories: what a training run recorded, and how it is kept."""

from gfm.trajectories.record import OPTIMIZERS, edges_of, record
from gfm.trajectories.trajectories import Trajectories

__all__ = ["OPTIMIZERS", "Trajectories", "edges_of", "record"]
