"""The error of an environment that cannot be made, and advice for the user."""

from __future__ import annotations

#: How a user can install the packages themselves.
BY_HAND = (
    "say yourself how its packages are installed, in config.yaml: "
    'perf: {base_install: "{python} -m pip install -r requirements.txt"}'
)


class InstallError(Exception):
    """The environment of a tree cannot be provided; str() is the complete message."""
