"""Notebooks as files, their execution under a profile, and the results that are committed."""
