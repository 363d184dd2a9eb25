"""Errors of measuring quality."""

from __future__ import annotations


class QualityError(Exception):
    """Quality can't be measured; str() has the problem, the cause and the fix."""
