"""Whether what a session will write can be written, known before it measures."""

from __future__ import annotations

import os
from pathlib import Path


def unwritable(folder: Path, setting: str) -> list[str]:
    """Say so if nothing can be written in ``folder``, or in the nearest that exists above it."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return [f"{setting}: {place} is a file, no folder; move it away or name another folder"]
    if not os.access(place, os.W_OK | os.X_OK):
        return [f"{setting}: nothing can be written in {place}; change its permissions"]
    return []
