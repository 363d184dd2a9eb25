"""The stored record of one session, and its JSON form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import BeforeValidator

from pytest_llmperf.baselines.jsontext import dumps
from pytest_llmperf.baselines.loaded import Loaded
from pytest_llmperf.baselines.metric_record import MetricRecord as MetricRecord
from pytest_llmperf.baselines.metric_record import Metrics
from pytest_llmperf.baselines.metric_record import Samples as Samples
from pytest_llmperf.baselines.settings import Settings
from pytest_llmperf.baselines.strict_json import parse
from pytest_llmperf.config.extra_hashes import without_extra_values
from pytest_llmperf.machine.fingerprint import Machine
from pytest_llmperf.request_digest import StoredDigest
from pytest_llmperf.stored_json import LEFT_OUT, Flag, Stored, Whole, dump, expect, read

#: Raised whenever an older plugin would misread what a newer one writes.
SCHEMA_VERSION = 1
#: Format of ``recorded``, always UTC.
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def _is_time(text: str) -> bool:
    try:
        # strptime also takes 2026-1-2, which would sort wrongly.
        return datetime.strptime(text, TIME_FORMAT).strftime(TIME_FORMAT) == text
    except ValueError:
        return False


def _hex(digits: int) -> Any:
    """Expect a number of hexadecimal digits, or 64 (a commit of a SHA-256 repository)."""
    pattern = re.compile(rf"[0-9a-f]{{{digits}}}|[0-9a-f]{{64}}")
    return expect(
        f"{digits} hexadecimal digits or null", lambda text: text is None or pattern.fullmatch(text)
    )


@dataclass(frozen=True)
class Provenance(Stored):
    """Origin of a record: commit, branch, versions, digests.

    Attributes:
        commit: 40 hexadecimal digits, or None outside a repository.
        dirty: tracked files had changes that are in no commit.
        branch: or None (detached, no repository).
        plugin, python, engine, engine_version, backend: the software that measured.
        code: a digest of the project's files, baselines excepted; None in older files, and
            outside a repository.
        environment: a digest of the installed packages and of the variables that an engine's
            speed depends on; None as ``code``.
    """

    commit: Annotated[str | None, _hex(40)]
    dirty: Flag
    branch: str | None
    plugin: str
    python: str
    engine: str
    engine_version: str
    backend: str
    code: str | None = field(default=None, metadata=LEFT_OUT)
    environment: str | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class ModelIdentity(Stored):
    """Identity of a model: the hash of its files counts, the name is for readers.

    Attributes:
        name: shown to readers.
        sha256: of the file (of several, over all of them), 64 hexadecimal digits; None for an
            engine without a model file.
        size_bytes, quantization: for readers; None if unknown.
    """

    name: str
    sha256: Annotated[str | None, _hex(64)]
    size_bytes: Whole | None = None
    quantization: str | None = None


@dataclass(frozen=True)
class RecordedSession(Stored):
    """Measurement settings and findings of a recorded session.

    Attributes:
        seed: of the order of tests in each round.
        processes, iterations: planned numbers; the samples have the actual ones.
        findings: problems noticed on the machine, as reported to the user.
        calibration: the machine's noise that the session was judged with, plain JSON; None
            where the machine had not been calibrated.
        fitness: the fitness checks that found something, each with the worst severity.
    """

    seed: Whole
    processes: Whole
    iterations: Whole
    findings: tuple[str, ...] = ()
    calibration: Mapping[str, Any] | None = field(default=None, metadata=LEFT_OUT)
    fitness: Annotated[
        Mapping[str, str], BeforeValidator(lambda found: {} if found is None else found)
    ] = field(default_factory=dict, metadata=LEFT_OUT)


@dataclass(frozen=True)
class TestRecord(Stored):
    """One recorded test: its workload and its metrics.

    Attributes:
        workload: its hash.
        summary: the workload in words.
        invalid: why these samples may not judge anything; empty when they may.
        metrics: by name.
        accepted: why this session's level was accepted as the new one, or None; older
            sessions of the same workload then no longer judge.
        requests: digests of the workload's requests, to tell what changed; of very many only the
            first ones. Empty in older files.
    """

    __test__ = False

    workload: str
    summary: str
    metrics: Metrics
    invalid: tuple[str, ...] = ()
    accepted: str | None = field(default=None, metadata=LEFT_OUT)
    requests: tuple[StoredDigest, ...] = field(default=(), metadata=LEFT_OUT)


@dataclass(frozen=True)
class BaselineRecord(Stored):
    """One recorded session.

    Attributes:
        recorded: time, UTC, as ``2026-11-22T23:59:26Z``.
        config: the resolved engine settings, plain JSON; of ``extra`` the hashes.
        tests: by node id.
        loaded: state of the loaded engine; None in older files.
    """

    recorded: Annotated[str, expect("a UTC time such as 2026-11-22T23:59:26Z", _is_time)]
    provenance: Provenance
    model: ModelIdentity
    config: Settings
    machine: Machine
    session: RecordedSession
    tests: Mapping[str, TestRecord] = field(default_factory=dict)
    loaded: Loaded | None = field(default=None, metadata=LEFT_OUT)


def now() -> str:
    """Return the current time in the format of ``recorded``."""
    return datetime.now(timezone.utc).strftime(TIME_FORMAT)


def to_text(record: BaselineRecord) -> str:
    """Return the text of a record's file.

    Keys are in a stable order, numbers have 9 significant digits, each process has one line.

    Raises:
        ValueError: a value can't be stored or read back; the message names it.
    """
    data = {"schema": SCHEMA_VERSION, **dump(record)}
    data["config"] = without_extra_values(record.config)
    data["tests"] = {nodeid: _in_order(test) for nodeid, test in sorted(data["tests"].items())}
    for last in ("machine", "session", "tests"):
        data[last] = data.pop(last)
    text = dumps(data)
    # Never write a file that could not be read back: every later session would stop at it.
    from_json(parse(text))
    return text


def _in_order(test: dict[str, Any]) -> dict[str, Any]:
    """Return a test with its metrics last, by name."""
    metrics = test.pop("metrics")
    return {**test, "metrics": dict(sorted(metrics.items()))}


def from_json(data: Any) -> BaselineRecord:
    """Rebuild a record from parsed JSON.

    Keys that this version does not know are ignored: changes of meaning raise the schema
    version instead.

    Raises:
        ShapeError: which item is wrong, what was expected and what it is.
    """
    return read(BaselineRecord, data)
