"""Experiments in which the derived and the learned flow meet."""
