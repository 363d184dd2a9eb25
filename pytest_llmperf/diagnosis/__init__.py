"""Diagnosis: why a run is slow, what to change, and what the change brings."""
