"""Projects with stored sessions in a real git repository, and ``llmperf compare`` run in them."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

from commit_projects import NO_SETTINGS

from pytest_llmperf.baselines.record import (
    BaselineRecord,
    MetricRecord,
    ModelIdentity,
    Provenance,
    RecordedSession,
    TestRecord,
)
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.cli import compare
from pytest_llmperf.machine.fingerprint import Machine

KEY = "xeon-2c_cpu"
OTHER_KEY = "ryzen-8c_cpu"
CHAT = "tests/perf/test_chat.py::test_chat"
LONG = "tests/perf/test_chat.py::test_long[a b]"
MODEL = ModelIdentity("smollm2-135m", "b1" * 32, 98362432, "Q4_1")
OTHER_MODEL = ModelIdentity("smollm2-360m", "c2" * 32, 198362432, "Q4_1")
MACHINES = {
    KEY: Machine(KEY, {"backend": "cpu", "cpu": "Xeon", "usable cores": 2}, {"kernel": "6.1"}),
    OTHER_KEY: Machine(OTHER_KEY, {"backend": "cpu", "cpu": "Ryzen", "usable cores": 8}, {}),
}
#: Relative offsets between sessions, and between the three processes of a session.
_SESSIONS = (0.0, 0.004, -0.003, 0.002, -0.004, 0.003, -0.001, 0.001, -0.002, 0.0)
_PROCESSES = (0.0, 0.002, -0.002)


def metrics(slower: float, offset: float = 0.0) -> dict[str, MetricRecord]:
    """Return samples of a session that is ``slower`` by a factor: 3 processes x 3 iterations."""

    def rows(value: float) -> tuple[tuple[float, ...], ...]:
        return tuple((value * (1 + offset + p),) * 3 for p in _PROCESSES)

    return {
        "tokens_per_sec": MetricRecord("tok/s", rows(80.0 / slower)),
        "prefill_tokens_per_sec": MetricRecord("tok/s", rows(300.0 / slower)),
        "first_token": MetricRecord("s", rows(0.4 * slower)),
        "end_to_end": MetricRecord("s", rows(1.8 * slower)),
    }


class Project:
    """A folder that is a git repository, with a store of baselines in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = BaselineStore(root / "perf_baselines")
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        """Run git here and return what it prints."""
        return subprocess.run(
            ["git", *words],
            cwd=self.root,
            env={**os.environ, **NO_SETTINGS},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def record(
        self,
        day: int,
        slower: float = 1.0,
        *,
        key: str = KEY,
        model: ModelIdentity = MODEL,
        tests: tuple[str, ...] = (CHAT,),
        store: BaselineStore | None = None,
        **changes: Any,
    ) -> Path:
        """Record a session at noon of a day in November; keywords replace parts of each test."""
        commit = changes.pop("commit", f"{day:040x}")
        config = changes.pop("config", {"n_ctx": 2048})
        plain: dict[str, Any] = {
            "workload": "w1",
            "summary": "1 request, 38 tokens in, 64 out",
            "metrics": metrics(slower, _SESSIONS[day % len(_SESSIONS)] + day * 1e-7),
        }
        test = TestRecord(**(plain | changes))
        return (store or self.store).write(
            BaselineRecord(
                recorded=f"2026-11-{day:02}T12:00:00Z",
                provenance=Provenance(
                    commit, False, "main", "0.1.0", "3.11.7", "llama_cpp", "0.3.36", "cpu"
                ),
                model=model,
                config=config,
                machine=MACHINES[key],
                session=RecordedSession(7, 3, 3),
                tests=dict.fromkeys(tests, test),
            )
        )

    def commit(self, subject: str = "Record") -> str:
        """Commit everything in the folder, and return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.git("rev-parse", "HEAD")

    def base(self, sessions: int = 10, **keywords: Any) -> str:
        """Commit a store of sessions, one a day from 1 November."""
        for day in range(1, sessions + 1):
            self.record(day, **keywords)
        return self.commit("Base")


def parse(*words: str) -> argparse.Namespace:
    """Parse the words as ``llmperf compare`` would."""
    parser = argparse.ArgumentParser(prog="llmperf")
    compare.add_parser(parser.add_subparsers(dest="command", required=True))
    return parser.parse_args(["compare", *words])
