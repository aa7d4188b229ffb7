"""Experiments as plain data with a key, and the store that keeps their results."""

from gfm.store.experiment import Experiment, Progress, Result
from gfm.store.provenance import ledger
from gfm.store.store import Store, obtain

__all__ = ["Experiment", "Progress", "Result", "Store", "ledger", "obtain"]
