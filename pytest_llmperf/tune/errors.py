"""Errors of a search for better settings."""

from __future__ import annotations


class TuneError(Exception):
    """Raised if a search can't start or continue; ``str()`` is the complete message."""
