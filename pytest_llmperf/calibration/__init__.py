"""Calibration: how noisy this machine is, which false alarms the gate raises, what it catches."""
