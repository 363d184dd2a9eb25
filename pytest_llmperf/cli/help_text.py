"""The exit statuses of a command, as text for its ``--help``."""

from __future__ import annotations

from collections.abc import Mapping


def exit_status_text(meanings: Mapping[int, str]) -> str:
    """Return the lines that explain a command's exit statuses."""
    return "\n".join(["exit status:", *(f"  {code:<4}{text}" for code, text in meanings.items())])
