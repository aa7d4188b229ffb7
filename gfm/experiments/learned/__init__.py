"""Experiments on learned flows and the other forecasters."""
