"""Calibration: measures this machine's noise, false alarms, and the slowdowns it detects."""
