"""Stored baselines: one file per recorded session, matching, and the samples to judge by."""
