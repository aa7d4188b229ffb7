"""Measurements on runs: distances, levels at the edge, predicted averages, intervals over replicates."""
