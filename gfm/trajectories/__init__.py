"""Weight trajectories: what a training run recorded, and how it is kept."""

from gfm.trajectories.trajectories import Trajectories

__all__ = ["Trajectories"]
