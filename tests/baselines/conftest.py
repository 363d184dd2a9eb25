"""Records to store, and a writer in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.baselines.decisions import Decision
from pytest_llmperf.baselines.record import (
    BaselineRecord,
    MetricRecord,
    ModelIdentity,
    Provenance,
    RecordedSession,
    TestRecord,
    to_text,
)
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.machine.fingerprint import Machine

NODEID = "tests/perf/test_answer.py::test_short_answer[ünï-1]"
SAMPLES = ((84.9123456789, 85.1, 84.7), (85.5, 85.3, 85.9), (83.2, 84.0, 83.9))
MACHINE = Machine(
    "xeon-sapphire-rapids-2c_cpu",
    {"backend": "cpu", "cpu": "Intel(R) Xeon(R) Processor", "usable cores": 2, "memory GiB": 23.5},
    {"os": "Linux", "kernel": "6.1.0"},
)
MODEL = ModelIdentity("smollm2-135m", "b1" * 32, 98362432, "Q4_1")
PROVENANCE = Provenance(
    "0123456789abcdef0123456789abcdef01234567",
    False,
    "main",
    "0.1.0",
    "3.11.7",
    "llama_cpp",
    "0.3.36",
    "cpu",
)

MakeRecord = Callable[..., BaselineRecord]


def make_test(**changes: Any) -> TestRecord:
    metrics = {
        "tokens_per_sec": MetricRecord("tok/s", SAMPLES),
        "first_token": MetricRecord("s", ((0.41, 0.42), (0.4, 0.43))),
    }
    facts = {"workload": "w1", "summary": "1 request, 38 tokens in, 64 out", "metrics": metrics}
    return TestRecord(**{**facts, **changes})


@pytest.fixture
def make_record() -> MakeRecord:
    """Build a record; keywords replace its parts, ``test`` replaces parts of its only test."""

    def make(test: dict[str, Any] | None = None, **changes: Any) -> BaselineRecord:
        record = BaselineRecord(
            recorded="2026-11-22T23:59:26Z",
            provenance=PROVENANCE,
            model=MODEL,
            config={"n_ctx": 2048, "n_threads": 2, "model_path": "smollm2-135m", "extra": {}},
            machine=MACHINE,
            session=RecordedSession(7, 3, 3, ("process 4242 (stress) used 1.9 of 2 cores",)),
            tests={NODEID: make_test(**(test or {}))},
        )
        return replace(record, **changes)

    return make


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "perf_baselines")


@pytest.fixture
def bad_file(store: BaselineStore, make_record: MakeRecord) -> Callable[..., Path]:
    """Put a file with the given content into the machine's folder of the store."""

    def put(content: str | bytes, name: str = "20260101T000000Z_bad.json") -> Path:
        path = store.root / MACHINE.key / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


@pytest.fixture
def writer(
    store: BaselineStore, make_record: MakeRecord, tmp_path: Path
) -> Callable[..., list[str]]:
    """Return the command of a process that says ``ready`` and then writes ``count`` records."""
    source = tmp_path / "to_write.json"

    def command(count: int, prelude: str = "") -> list[str]:
        source.write_text(to_text(make_record()), encoding="utf-8")
        code = (
            "import json, sys\nfrom pathlib import Path\n"
            "from pytest_llmperf.baselines import folder\n"
            "from pytest_llmperf.baselines.errors import BaselineError\n"
            "from pytest_llmperf.baselines.record import from_json\n"
            "from pytest_llmperf.baselines.store import BaselineStore\n"
            f"record = from_json(json.loads(Path({str(source)!r}).read_text('utf-8')))\n"
            f"store = BaselineStore(Path({str(store.root)!r}))\n"
            f"{prelude}\n"
            "print('ready', flush=True)\n"
            f"for _ in range({count}):\n"
            "    print(store.write(record).name, flush=True)\n"
        )
        return [sys.executable, "-c", code]

    return command


@pytest.fixture
def make_decision() -> Callable[..., Decision]:
    """Build a decision; keywords replace its parts."""

    def make(**changes: Any) -> Decision:
        decision = Decision(
            kind="accept",
            decided="2026-11-23T08:00:00.250Z",
            session="20261122T235926Z_0123456789ab.json",
            tests=(NODEID,),
            reason="a slower, better sampler",
            commit="0123456789abcdef0123456789abcdef01234567",
        )
        return replace(decision, **changes)

    return make
