"""Experiments: configured runs whose results are stored and reused, never silently trusted."""

from gfm.experiments.base import Experiment, Progress, Result
from gfm.experiments.provenance import ledger
from gfm.experiments.store import Store, obtain

__all__ = ["Experiment", "Progress", "Result", "Store", "ledger", "obtain"]
