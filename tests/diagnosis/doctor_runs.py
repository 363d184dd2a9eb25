"""Runs of ``llmperf doctor`` and what they found."""

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
#: As many threads as an ordinary configuration has. Other tests use one: two that another
#: process disturbs take many times as long.
AUTO = ("--set", "llm.n_threads=auto", "--set", "llm.n_threads_batch=auto")
#: Fast settings on the command line, with work for a second.
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
        """Run the command in a process of its own, which writes a JSON file."""
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
        """The JSON that the last run wrote."""
        data: dict[str, Any] = json.loads((self.folder / "found.json").read_text())
        return data

    @property
    def names(self) -> list[str]:
        """Names of the causes that the last run found, in order."""
        return [finding["name"] for finding in self.found["findings"]]
