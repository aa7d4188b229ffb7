"""Experiments on derived flows."""
