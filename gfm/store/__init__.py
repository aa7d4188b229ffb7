"""Experiments as plain data with a key, and the store that keeps their results."""

from gfm.store.experiment import Context, Experiment, Obtain, Progress, Result
from gfm.store.store import Store, key_of, obtain

__all__ = ["Context", "Experiment", "Obtain", "Progress", "Result", "Store", "key_of", "obtain"]
