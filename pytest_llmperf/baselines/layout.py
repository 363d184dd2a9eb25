"""How baselines lie on disk: a machine's folder, its decisions, and how long a file may be."""

from __future__ import annotations

#: The subfolder of a machine's folder that holds the decisions about its sessions.
DECISIONS_FOLDER = "decisions"
#: Far above any real record; a file this long is something else.
MAX_BYTES = 64 << 20
