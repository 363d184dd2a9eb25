"""Layout of baselines on disk: the folder of decisions, and the size limit of files."""

from __future__ import annotations

#: The subfolder of a machine's folder that holds the decisions about its sessions.
DECISIONS_FOLDER = "decisions"
#: Size limit in bytes, far above any real record.
MAX_BYTES = 64 << 20
