"""Experiments: configured runs of either kind of flow, whose results are stored and reused."""
