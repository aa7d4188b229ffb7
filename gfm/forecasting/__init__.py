"""What all forecasters share: the interface, training, the report of a fit, conversion to scalar series."""
