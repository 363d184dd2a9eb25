"""Errors that end a session, or its comparison with another side."""

from __future__ import annotations


class SideError(Exception):
    """A side of a comparison that can't be used; ``str()`` is a complete message."""
