"""Folders of baselines like those of a project, for tests of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_llmperf.baselines.record import (
    BaselineRecord,
    MetricRecord,
    ModelIdentity,
    Provenance,
    RecordedSession,
    TestRecord,
)
from pytest_llmperf.baselines.store import BaselineStore, Shelf
from pytest_llmperf.machine.fingerprint import Machine

KEY = "xeon-2c_cpu"
SHORT = "tests/perf/test_chat.py::test_short"
LONG = "tests/perf/test_chat.py::test_long[a b]"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def name_of(day: int) -> str:
    """Return the file name of the session of that day."""
    return f"202611{day:02}T120000Z_{COMMIT[:12]}.json"


class Folder:
    """A baseline store with shortcuts to fill it."""

    def __init__(self, root: Path) -> None:
        self.store = BaselineStore(root)

    def record(
        self,
        day: int,
        rate: float = 85.0,
        *,
        key: str = KEY,
        tests: tuple[str, ...] = (SHORT, LONG),
        **changes: Any,
    ) -> Path:
        """Record a session at noon of that day; keywords replace parts of each test."""
        metrics = {
            "tokens_per_sec": MetricRecord("tok/s", ((rate, rate * 1.001), (rate * 0.999,))),
            "first_token": MetricRecord("s", ((34 / rate,), (34 / rate,))),
        }
        provenance = changes.pop("provenance", {})
        facts = {"workload": "w1", "summary": "1 request, 38 tokens in, 64 out"}
        test = TestRecord(**{**facts, "metrics": metrics, **changes})
        source = {
            "commit": COMMIT,
            "dirty": False,
            "branch": "main",
            "plugin": "0.1.0",
            "python": "3.11.7",
            "engine": "llama_cpp",
            "engine_version": "0.3.36",
            "backend": "cpu",
        }
        return self.store.write(
            BaselineRecord(
                recorded=f"2026-11-{day:02}T12:00:00Z",
                provenance=Provenance(**(source | provenance)),
                model=ModelIdentity("smollm2-135m", "b1" * 32, 98362432, "Q4_1"),
                config={"n_ctx": 2048},
                machine=Machine(key, {"backend": "cpu", "usable cores": 2}, {}),
                session=RecordedSession(7, 2, 1),
                tests=dict.fromkeys(tests, test),
            )
        )

    def shelf(self, key: str = KEY) -> Shelf:
        return self.store.read_shelf(key)
