"""Weight trajectories: the weights recorded during training runs, and their storage.

:func:`record` trains networks and records their weights; :func:`read_checkpoints` (or
:meth:`Trajectories.from_checkpoints`) reads a folder of state dicts saved during a run of your own;
:meth:`Trajectories.load` reads what :meth:`Trajectories.save` wrote.
"""

from gfm.trajectories.checkpoints import read_checkpoints
from gfm.trajectories.graph import edges_of
from gfm.trajectories.record import OPTIMIZERS, record
from gfm.trajectories.trajectories import Trajectories

__all__ = ["OPTIMIZERS", "Trajectories", "edges_of", "read_checkpoints", "record"]
