"""The machine of a measurement: its fingerprint, its GPUs, and its other load."""
