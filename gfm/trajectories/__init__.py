"""Weight trajectories: the weights recorded during training runs, and their storage.

:func:`record` trains networks and records their weights; :func:`read_checkpoints` (or
:meth:`Trajectories.from_checkpoints`) reads the checkpoints saved during a run of your own;
:meth:`Trajectories.load` reads what :meth:`Trajectories.save` wrote. :meth:`Trajectories.load_into` brings any recorded
or forecast state back into a module.
"""

from gfm.trajectories.checkpoints import read_checkpoints
from gfm.trajectories.graph import edges_of
from gfm.trajectories.layout import Layout
from gfm.trajectories.record import OPTIMIZERS, record
from gfm.trajectories.trajectories import Trajectories

__all__ = ["OPTIMIZERS", "Layout", "Trajectories", "edges_of", "read_checkpoints", "record"]
