"""Repositories with recorded sessions, made by real git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
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
    to_text,
)
from pytest_llmperf.machine.fingerprint import Machine

_START = datetime(2026, 1, 1, tzinfo=timezone.utc)
KEY = "xeon-2c_cpu"
FOLDER = "perf_baselines"
SHORT = "tests/perf/test_chat.py::test_short"
LONG = "tests/perf/test_chat.py::test_long[a b]"
MODEL = ModelIdentity("smollm2-135m", "b1" * 32, 98362432, "Q4_1")


def moment(number: int) -> str:
    """Return the time of the session with this number: one a day, from 1 January 2026."""
    return f"{_START + timedelta(days=number):%Y-%m-%d}T12:00:00Z"


def test_of(rate: float, **changes: Any) -> TestRecord:
    """Return a test that decoded ``rate`` tokens per second."""
    metrics = {
        "tokens_per_sec": MetricRecord("tok/s", ((rate, rate * 1.001), (rate * 0.999, rate))),
        "first_token": MetricRecord("s", ((34 / rate,), (34 / rate,))),
    }
    facts = {"workload": "w1", "summary": "1 request, 38 tokens in, 64 out", "metrics": metrics}
    return TestRecord(**{**facts, **changes})


test_of.__test__ = False  # type: ignore[attr-defined]


def record_of(
    number: int, commit: str | None, rate: float = 85.0, *, key: str = KEY, **changes: Any
) -> BaselineRecord:
    """Return the session with this number; keywords replace parts of it or of its tests."""
    parts = {"dirty": False, "recorded": moment(number), "model": MODEL, "names": (SHORT,)}
    parts |= {name: changes.pop(name) for name in parts if name in changes}
    source = Provenance(
        commit, parts["dirty"], "main", "0.1.0", "3.11.7", "llama_cpp", "0.3.36", "cpu"
    )
    return BaselineRecord(
        recorded=parts["recorded"],
        provenance=source,
        model=parts["model"],
        config={"n_ctx": 2048},
        machine=Machine(key, {"backend": "cpu", "usable cores": 2}, {}),
        session=RecordedSession(7, 2, 2),
        tests=dict.fromkeys(parts["names"], test_of(rate, **changes)),
    )


def path_of(record: BaselineRecord) -> str:
    """Return the path of a record, relative to the repository's top."""
    stamp = record.recorded.replace("-", "").replace(":", "")
    commit = (record.provenance.commit or "nocommit")[:12]
    dirty = "-dirty" if record.provenance.dirty else ""
    return f"{FOLDER}/{record.machine.key}/{stamp}_{commit}{dirty}.json"


class Project:
    """A git repository for recorded sessions."""

    def __init__(self, top: Path, *options: str) -> None:
        self.top = top
        top.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main", *options)

    def git(self, *words: str, stdin: bytes | None = None, **environ: str) -> str:
        """Run git, and return what it prints."""
        done = subprocess.run(
            ["git", *words],
            cwd=self.top,
            input=stdin,
            env={**os.environ, **NO_SETTINGS, **environ},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode(errors="surrogateescape").strip()

    def commit(
        self, changes: Mapping[str, bytes | str | None], subject: str = "A change", day: int = 0
    ) -> str:
        """Write files (None: remove), commit everything, and return the commit."""
        for name, content in changes.items():
            path = self.top / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "-A", "-f")
        when = moment(day).replace("T12", "T00")
        self.git(
            "commit", "-q", "--allow-empty", "-m", subject, GIT_AUTHOR_DATE=when,
            GIT_COMMITTER_DATE=when,
        )  # fmt: skip
        return self.git("rev-parse", "HEAD")

    def record(self, number: int, rate: float = 85.0, **changes: Any) -> str:
        """Commit a session that measured HEAD; return the record's path."""
        record = record_of(number, self.git("rev-parse", "HEAD"), rate, **changes)
        self.commit({path_of(record): to_text(record)}, "A session", number)
        return path_of(record)

    def grow(
        self,
        rates: Sequence[float],
        *,
        between: int = 1,
        records: Mapping[int, Mapping[str, Any]] | None = None,
        prune: int | None = None,
    ) -> list[str]:
        """Add, for each rate, ``between`` commits and a session that measured the last of them.

        ``records`` replaces parts of single sessions, by number; ``prune`` removes the session
        that many sessions back. Return the measured commits.
        """
        parent = self.git("rev-list", "--max-count=1", "--all")
        measured: list[str] = []
        paths: list[str] = []
        with subprocess.Popen(
            ["git", "fast-import", "--quiet", "--cat-blob-fd=1"],
            cwd=self.top,
            env={**os.environ, **NO_SETTINGS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            mark = 0
            for number, rate in enumerate(rates):
                seconds = int((_START + timedelta(days=number)).timestamp())
                for step in range(between):
                    mark += 1
                    source = f"value = {number}.{step}\n"
                    lines = [
                        f"commit refs/heads/main\nmark :{mark}",
                        f"committer A <a@example.org> {seconds + step} +0000",
                        f"data <<EOM\nChange {number}.{step}\nEOM",
                        *([f"from {parent}"] if parent else []),
                        f"M 644 inline app.py\ndata {len(source)}\n{source}",
                        f"get-mark :{mark}\n",
                    ]
                    process.stdin.write("\n".join(lines).encode())
                    process.stdin.flush()
                    measured_commit = process.stdout.readline().decode().strip()
                    parent = f":{mark}"
                measured.append(measured_commit)
                record = record_of(number, measured_commit, rate)
                for name, value in (records or {}).get(number, {}).items():
                    if name in ("recorded", "model"):
                        record = replace(record, **{name: value})
                    elif name in ("commit", "dirty"):
                        provenance = replace(record.provenance, **{name: value})
                        record = replace(record, provenance=provenance)
                    else:
                        tests = {k: replace(t, **{name: value}) for k, t in record.tests.items()}
                        record = replace(record, tests=tests)
                paths.append(path_of(record))
                text = to_text(record)
                mark += 1
                lines = [
                    f"commit refs/heads/main\nmark :{mark}",
                    f"committer A <a@example.org> {seconds + 3_600} +0000",
                    f"data <<EOM\nSession {number}\nEOM",
                    f"from {parent}",
                    f"M 644 inline {paths[-1]}\ndata {len(text.encode())}\n{text}",
                    *([f"D {paths[-prune - 1]}"] if prune and len(paths) > prune else []),
                    f"get-mark :{mark}\n",
                ]
                process.stdin.write("\n".join(lines).encode())
                process.stdin.flush()
                process.stdout.readline()
                parent = f":{mark}"
            process.stdin.close()
        self.git("reset", "-q", "--hard", "main")
        return measured
