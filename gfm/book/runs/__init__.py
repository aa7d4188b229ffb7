"""Notebooks as files, their execution under a profile, and what is kept of it."""
