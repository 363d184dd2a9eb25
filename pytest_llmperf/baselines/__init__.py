"""Stored baselines: one file per recorded session, what matches, and the evidence in it."""
