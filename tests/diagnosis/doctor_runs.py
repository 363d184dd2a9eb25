"""How to run ``llmperf doctor`` and read what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Settings that load fast.
SMALL: dict[str, Any] = {"n_ctx": 512, "n_batch": 256, "n_ubatch": 256, "max_tokens": 8}
#: The threads as an ordinary configuration has them. They are one elsewhere: two that a
#: neighbour disturbs take many times as long.
AUTO = ("--set", "llm.n_threads=auto", "--set", "llm.n_threads_batch=auto")
#: The same on the command line, with work of a second.
QUICK = (
    *("--set", "llm.n_ctx=256", "--set", "llm.max_tokens=8"),
    *("--set", "llm.n_threads=1", "--set", "llm.n_threads_batch=1"),
    *("--prompt-tokens", "16", "--max-tokens", "4", "--budget", "20m"),
)
COMMAND = (sys.executable, "-m", "pytest_llmperf.cli", "doctor")


@dataclass
class Run:
    """Runs of the command in one folder."""

    folder: Path

    def doctor(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run it in a process of its own, with a JSON file."""
        return subprocess.run(
            [*COMMAND, *arguments, "--json", "found.json"],
            cwd=self.folder,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @property
    def found(self) -> dict[str, Any]:
        """What the last run wrote."""
        data: dict[str, Any] = json.loads((self.folder / "found.json").read_text())
        return data

    @property
    def names(self) -> list[str]:
        """The causes of the last run, in order."""
        return [one["name"] for one in self.found["findings"]]
