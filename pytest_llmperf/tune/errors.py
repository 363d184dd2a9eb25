"""Errors of a search for better settings."""

from __future__ import annotations


class TuneError(Exception):
    """A search that can't start or go on; str() is the complete message."""
