"""The record of one session: what is stored of it, and its JSON form."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.jsontext import dumps
from pytest_llmperf.baselines.loaded import Loaded, read_loaded
from pytest_llmperf.baselines.metric_record import MetricRecord as MetricRecord
from pytest_llmperf.baselines.metric_record import Samples as Samples
from pytest_llmperf.baselines.metric_record import read_metric
from pytest_llmperf.baselines.reader import Reader
from pytest_llmperf.baselines.settings import read_settings
from pytest_llmperf.baselines.strict_json import parse
from pytest_llmperf.config.extra_hashes import without_extra_values
from pytest_llmperf.environment.machine import Machine
from pytest_llmperf.request_digest import RequestDigest

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Raised whenever an older plugin would misread what a newer one writes.
SCHEMA_VERSION = 1
#: How ``recorded`` is written, always UTC.
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Provenance:
    """Where a record comes from.

    Attributes:
        commit: 40 hexadecimal digits, or None outside a repository.
        dirty: tracked files had changes that are in no commit.
        branch: or None (detached, no repository).
        plugin, python, engine, engine_version, backend: what measured.
        code: a digest of the project's files, baselines excepted; None in older files, and
            outside a repository.
        environment: a digest of the installed packages and of the variables that an engine's
            speed depends on; None as ``code``.
    """

    commit: str | None
    dirty: bool
    branch: str | None
    plugin: str
    python: str
    engine: str
    engine_version: str
    backend: str
    code: str | None = None
    environment: str | None = None


@dataclass(frozen=True)
class ModelIdentity:
    """The model's files: their bytes are what counts, the name is for readers.

    Attributes:
        name: what a reader calls it.
        sha256: of the file (of several, over all of them), 64 hexadecimal digits; None for an
            engine without a model file.
        size_bytes, quantization: for readers; None if unknown.
    """

    name: str
    sha256: str | None
    size_bytes: int | None = None
    quantization: str | None = None


@dataclass(frozen=True)
class SessionFacts:
    """How the session measured.

    Attributes:
        seed: of the order of tests in each round.
        processes, iterations: as planned; the samples say what was reached.
        findings: what was noticed of the machine, as told to the user.
        calibration: the machine's noise that the session was judged with, plain JSON; None
            where the machine had not been calibrated.
        fitness: the fitness checks that found something, each with the worst severity.
    """

    seed: int
    processes: int
    iterations: int
    findings: tuple[str, ...] = ()
    calibration: Mapping[str, Any] | None = None
    fitness: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TestRecord:
    """One test.

    Attributes:
        workload: its hash.
        summary: the workload in words.
        invalid: why these samples may not judge anything; empty when they may.
        metrics: by name.
        accepted: why this session's level was accepted as the new one, or None; older
            sessions of the same workload then no longer judge.
        requests: digests of the workload's requests, to tell what changed; of the first ones
            of very many. Empty in older files.
    """

    __test__ = False

    workload: str
    summary: str
    metrics: Mapping[str, MetricRecord]
    invalid: tuple[str, ...] = ()
    accepted: str | None = None
    requests: tuple[RequestDigest, ...] = ()


@dataclass(frozen=True)
class BaselineRecord:
    """One recorded session.

    Attributes:
        recorded: when, UTC, as ``2026-11-22T23:59:26Z``.
        config: the resolved engine settings, plain JSON; of ``extra`` the hashes.
        tests: by node id.
        loaded: what the engine had loaded; None in older files.
    """

    recorded: str
    provenance: Provenance
    model: ModelIdentity
    config: Mapping[str, Any]
    machine: Machine
    session: SessionFacts
    tests: Mapping[str, TestRecord] = field(default_factory=dict)
    loaded: Loaded | None = None


def now() -> str:
    """Return the present time as ``recorded`` wants it."""
    return datetime.now(timezone.utc).strftime(TIME_FORMAT)


def to_text(record: BaselineRecord) -> str:
    """Return the file's text: stable key order, 9 significant digits, a line per process.

    Raises:
        ValueError: a value can't be stored, or could not be read back, naming it.
    """
    provenance, model, session = record.provenance, record.model, record.session
    text = dumps(
        {
            "schema": SCHEMA_VERSION,
            "recorded": record.recorded,
            "provenance": _provenance_json(provenance),
            "model": dict(vars(model)),
            "config": without_extra_values(record.config),
            **({"loaded": record.loaded.to_json()} if record.loaded is not None else {}),
            "machine": record.machine.to_json(),
            "session": _session_json(session),
            "tests": {
                nodeid: {
                    "workload": test.workload,
                    "summary": test.summary,
                    "invalid": list(test.invalid),
                    **({"accepted": test.accepted} if test.accepted is not None else {}),
                    **({"requests": [r.to_json() for r in test.requests]} if test.requests else {}),
                    "metrics": {
                        name: {
                            "unit": metric.unit,
                            "samples": [[float(x) for x in one] for one in metric.samples],
                        }
                        for name, metric in sorted(test.metrics.items())
                    },
                }
                for nodeid, test in sorted(record.tests.items())
            },
        }
    )
    # What could not be read back must not be written: every later session would stop at it.
    from_json(parse(text))
    return text


def _provenance_json(provenance: Provenance) -> dict[str, Any]:
    data = dict(vars(provenance))
    return {k: v for k, v in data.items() if v is not None or k not in ("code", "environment")}


def _session_json(session: SessionFacts) -> dict[str, Any]:
    data = {**vars(session), "findings": list(session.findings)}
    if session.calibration is None:
        del data["calibration"]
    else:
        data["calibration"] = dict(session.calibration)
    if session.fitness:
        data["fitness"] = dict(session.fitness)
    else:
        del data["fitness"]
    return data


def from_json(data: Any) -> BaselineRecord:
    """Rebuild a record from parsed JSON.

    Keys that this version does not know are ignored: what would change the
    meaning raises the schema version instead.

    Raises:
        ShapeError: which item is wrong, what was expected and what it is.
    """
    root = Reader(data)
    return BaselineRecord(
        recorded=_time(root["recorded"]),
        provenance=_provenance(root["provenance"]),
        model=_model(root["model"]),
        config=read_settings(root["config"]),
        machine=root["machine"].via(Machine.from_json),
        session=_session(root["session"]),
        tests={nodeid: _test(test) for nodeid, test in root["tests"].items()},
        loaded=read_loaded(root),
    )


def _time(item: Reader) -> str:
    text = item.text()
    try:
        # strptime also takes 2026-1-2, which would sort wrongly.
        exact = datetime.strptime(text, TIME_FORMAT).strftime(TIME_FORMAT) == text
    except ValueError:
        exact = False
    if not exact:
        raise item.wrong("a UTC time such as 2026-11-22T23:59:26Z")
    return text


def _provenance(item: Reader) -> Provenance:
    return Provenance(
        commit=_hex(item["commit"], 40),
        dirty=item["dirty"].boolean(),
        branch=item["branch"].optional_text(),
        plugin=item["plugin"].text(),
        python=item["python"].text(),
        engine=item["engine"].text(),
        engine_version=item["engine_version"].text(),
        backend=item["backend"].text(),
        code=_optional_text(item, "code"),
        environment=_optional_text(item, "environment"),
    )


def _model(item: Reader) -> ModelIdentity:
    return ModelIdentity(
        name=item["name"].text(),
        sha256=_hex(item["sha256"], 64),
        size_bytes=item["size_bytes"].optional_integer(),
        quantization=item["quantization"].optional_text(),
    )


def _hex(item: Reader, digits: int) -> str | None:
    text = item.optional_text()
    # SHA-256 repositories have 64-digit commits.
    if text is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}|[0-9a-f]{{64}}", text):
        raise item.wrong(f"{digits} hexadecimal digits or null")
    return text


def _session(item: Reader) -> SessionFacts:
    return SessionFacts(
        seed=item["seed"].integer(),
        processes=item["processes"].integer(),
        iterations=item["iterations"].integer(),
        findings=tuple(finding.text() for finding in item["findings"].elements()),
        calibration=_optional_mapping(item, "calibration"),
        fitness=_fitness(item),
    )


def _fitness(item: Reader) -> dict[str, str]:
    if _optional_mapping(item, "fitness") is None:
        return {}
    return {name: severity.text() for name, severity in item["fitness"].items()}


def _optional_mapping(item: Reader, key: str) -> dict[str, Any] | None:
    """Return an object as it is; None where it is null, or missing as in older files."""
    if key not in item.mapping() or item[key].is_null():
        return None
    return item[key].mapping()


def _optional_text(item: Reader, key: str) -> str | None:
    return item[key].optional_text() if key in item.mapping() else None


def _test(item: Reader) -> TestRecord:
    return TestRecord(
        workload=item["workload"].text(),
        summary=item["summary"].text(),
        metrics={name: read_metric(metric, name) for name, metric in item["metrics"].items()},
        invalid=tuple(reason.text() for reason in item["invalid"].elements()),
        accepted=_optional_text(item, "accepted"),
        requests=read_requests(item),
    )


def read_requests(item: Reader) -> tuple[RequestDigest, ...]:
    """Read the digests of a workload's requests; none where they are missing."""
    if "requests" not in item.mapping():
        return ()
    return tuple(one.via(RequestDigest.from_json) for one in item["requests"].elements())
