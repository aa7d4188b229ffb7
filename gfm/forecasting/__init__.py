"""What all forecasters share: the interface, training, the report of a fit, series cut from trajectories."""
