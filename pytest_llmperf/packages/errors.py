"""Why a tree's environment cannot be made, for the user."""

from __future__ import annotations

#: How a user takes the matter into their own hands.
BY_HAND = (
    "say yourself how its packages are installed, in config.yaml: "
    'perf: {base_install: "{python} -m pip install -r requirements.txt"}'
)


class InstallError(Exception):
    """The environment of a tree cannot be had; str() is the complete message."""
