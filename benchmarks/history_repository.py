"""A repository whose history holds a recorded session per commit, made with git fast-import."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO

import numpy as np

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
from pytest_llmperf.request_digest import RequestDigest

KEY = "xeon-2c_cpu"
FOLDER = "perf_baselines"
#: Metrics of a record, with the level that they vary about.
METRICS = {
    "tokens_per_sec": ("tok/s", 77.0),
    "prefill_tokens_per_sec": ("tok/s", 250.0),
    "first_token": ("s", 1.5),
    "end_to_end": ("s", 1.8),
    "time_per_output_token": ("s", 0.013),
    "inter_token": ("s", 0.0128),
}
PROCESSES = ITERATIONS = 3
#: Placeholder for the samples; no other number of a record reads like it.
_MARK = "1.23456789"
#: Placeholders for the time and the commit.
_RECORDED, _COMMIT = "2001-01-01T00:00:00Z", "c0" * 20
_START = datetime(2024, 1, 1, tzinfo=timezone.utc)


def build(folder: Path, commits: int, tests: int, keep: int | None = None, seed: int = 1) -> None:
    """Make a repository in a new folder: each commit changes a file and adds a session.

    A session measured the commit before. One test's first token gets 6% slower after 60% of
    the commits. ``keep``: a commit also removes the session recorded ``keep`` commits before.

    Raises:
        CalledProcessError: git failed.
    """
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    git = subprocess.Popen(
        ["git", "-C", str(folder), "fast-import", "--quiet", "--cat-blob-fd=1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert git.stdin is not None
    assert git.stdout is not None
    texts = _records(commits, tests, seed)
    measured, names = "", list[str]()
    for number in range(commits):
        when = _START + timedelta(hours=number)
        stamp = f"{when:%Y-%m-%dT%H:%M:%SZ}"
        names.append(f"{re.sub('[-:]', '', stamp)}_{measured[:12] or 'nocommit'}.json")
        commit = f'"{measured}"' if measured else "null"
        text = next(texts).replace(_RECORDED, stamp).replace(f'"{_COMMIT}"', commit)
        removed = names[-keep - 1] if keep is not None and number >= keep else None
        _commit(git.stdin, number, when, names[-1], text, removed)
        # The hash that the next session names.
        git.stdin.write(f"get-mark :{number + 1}\n".encode())
        git.stdin.flush()
        measured = git.stdout.readline().decode().strip()
    git.stdin.close()
    if git.wait():
        raise subprocess.CalledProcessError(git.returncode, "git fast-import")
    subprocess.run(["git", "-C", str(folder), "reset", "-q", "--hard"], check=True)


def _commit(
    stream: IO[bytes], number: int, when: datetime, name: str, text: str, removed: str | None
) -> None:
    seconds = int(when.timestamp())
    message, source = f"Change {number}", f"value = {number}\n"
    lines = [
        f"commit refs/heads/main\nmark :{number + 1}",
        f"committer Benchmark <benchmark@example.org> {seconds} +0000",
        f"data {len(message)}\n{message}",
        *([f"from :{number}"] if number else []),
        f"M 644 inline app.py\ndata {len(source)}\n{source}",
        f"M 644 inline {FOLDER}/{KEY}/{name}\ndata {len(text.encode())}\n{text}",
        *([f"D {FOLDER}/{KEY}/{removed}"] if removed is not None else []),
    ]
    stream.write(("\n".join(lines) + "\n").encode())


def _records(commits: int, tests: int, seed: int) -> Iterator[str]:
    """Yield the texts of records, as they are stored, with the samples filled in."""
    pieces = _template(tests).split(_MARK)
    levels = np.array([METRICS[name][1] for _ in range(tests) for name in sorted(METRICS)])
    slowed = sorted(METRICS).index("first_token")
    noise = np.random.default_rng(seed)
    for number in range(commits):
        # 1.5% between sessions, 1.2% between processes, 1% between iterations.
        session = levels * np.exp(0.015 * noise.standard_normal(len(levels)))
        if number > 0.6 * commits:
            session[slowed] *= 1.06
        shape = (len(levels), PROCESSES, ITERATIONS)
        spread = 0.012 * noise.standard_normal(shape[:2])[..., None]
        spread = spread + 0.01 * noise.standard_normal(shape)
        samples = (session[:, None, None] * np.exp(spread)).ravel().tolist()
        text = [pieces[0]]
        for value, piece in zip(samples, pieces[1:], strict=True):
            text += (f"{value:.9g}", piece)
        yield "".join(text)


def _template(tests: int) -> str:
    rows = ((float(_MARK),) * ITERATIONS,) * PROCESSES
    metrics = {name: MetricRecord(unit, rows) for name, (unit, _) in METRICS.items()}
    record = BaselineRecord(
        recorded=_RECORDED,
        provenance=Provenance(
            _COMMIT, False, "main", "0.1.0", "3.11.7", "llama_cpp", "0.3.36", "cpu"
        ),
        model=ModelIdentity("smollm2-135m", "b1" * 32, 98362432, "Q4_1"),
        config={"engine": "llama_cpp", "n_ctx": 2048, "n_batch": 1024, "n_threads": 2, "extra": {}},
        machine=Machine(KEY, {"backend": "cpu", "usable cores": 2}, {"os": "Linux"}),
        session=RecordedSession(1, PROCESSES, ITERATIONS),
        tests={
            f"tests/perf/test_answers_{number // 5}.py::test_answer_{number}": TestRecord(
                f"{number:016x}",
                "1 request, 384 tokens in, 24 out",
                metrics,
                requests=(_request(number),),
            )
            for number in range(tests)
        },
    )
    return to_text(record)


def _request(number: int) -> RequestDigest:
    identity = {
        "prompt": [number, *range(383)],
        "cache": "clear",
        "stream": False,
        "seed": None,
        "sampling": {},
        "grammar": None,
        "evaluated": 384,
        "output_tokens": 24,
    }
    return RequestDigest.of(identity)
