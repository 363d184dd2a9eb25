"""Turns imported runs into sessions: runs of one configuration are the samples of one session."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.baselines.record import (
    KEY_PREFIX,
    BaselineRecord,
    ImportOrigin,
    MetricRecord,
    ModelIdentity,
    Provenance,
    RecordedSession,
    SourceFile,
    TestRecord,
)
from pytest_llmperf.importers.items import shortened
from pytest_llmperf.importers.protocol import ImportedRun
from pytest_llmperf.machine.fingerprint import KEY_LENGTH, Machine, safe_name
from pytest_llmperf.metrics import get_metric

_UNKNOWN = "unknown"
_SHORT = 12
#: Names of settings that test ids abbreviate, as the tools themselves do.
_IN_IDS = {"n_gpu_layers": "ngl", "flash_attn": "fa"}
_MACHINE_STATED = "the machine is the one that the user named"
_MACHINE_UNKNOWN = (
    "the file does not name the machine, so compare shows it and judges nothing; to judge, import "
    "with --machine NAME"
)
_MODEL_STATED = "the model is the one that the user named"
_MODEL_UNKNOWN = (
    "the file does not name the model, so compare shows it and judges nothing; to judge, import "
    "with --model NAME"
)
_DATE_STATED = "the date is the one that the user named"
_DATE_MODIFIED = "the file has no date: it is the time when the file was written last"


@dataclass(frozen=True)
class SourcedRun:
    """A run and the file that it comes from.

    Attributes:
        tool: the tool that measured it.
        run: the run.
        source: its file.
        modified: when the file was last written, for a file without a date.
    """

    tool: str
    run: ImportedRun
    source: SourceFile
    modified: str


@dataclass(frozen=True)
class StatedFacts:
    """Facts that the user states about the runs; ``recorded`` is for files without a date."""

    machine: str | None = None
    model: str | None = None
    recorded: str | None = None


def sessions_of(runs: Sequence[SourcedRun], stated: StatedFacts) -> list[BaselineRecord]:
    """Return the sessions of these runs, in the order of their first run.

    Runs of one tool, version, machine, model and commit form a session. Every test of a session has
    the same number of runs; runs of other work under the same name form a session of their own.
    """
    groups: dict[str, list[SourcedRun]] = {}
    for sourced in runs:
        groups.setdefault(_group(sourced, stated), []).append(sourced)
    return [
        _record(tests, group, stated) for group in groups.values() for tests in _alike_tests(group)
    ]


def _group(sourced: SourcedRun, stated: StatedFacts) -> str:
    """Return a key that all runs of a session share."""
    identity = sourced.run.identity
    parts = (
        sourced.tool,
        identity.version,
        identity.engine,
        identity.engine_version,
        identity.python,
        None if identity.commit is None else [identity.commit.commit, identity.commit.dirty],
        _machine(sourced, stated).strict,
        _model(sourced, stated)[0].name,
    )
    return json.dumps(parts, sort_keys=True, default=str)


def _alike_tests(runs: Sequence[SourcedRun]) -> Iterator[dict[str, list[SourcedRun]]]:
    """Yield the tests of each session by id: each has the same number of runs, of one workload."""
    varying = _varying(runs)
    tests: dict[str, dict[str, list[SourcedRun]]] = {}
    for sourced in runs:
        by_work = tests.setdefault(_test_id(sourced, varying), {})
        by_work.setdefault(_workload_hash(sourced), []).append(sourced)
    sessions: dict[tuple[int, int], dict[str, list[SourcedRun]]] = {}
    for name, by_work in tests.items():
        for number, same_work in enumerate(by_work.values()):
            sessions.setdefault((number, len(same_work)), {})[name] = same_work
    yield from sessions.values()


def _varying(runs: Sequence[SourcedRun]) -> list[str]:
    """Return the names of settings that differ among runs, in the runs' order."""
    names = dict.fromkeys(name for sourced in runs for name in sourced.run.settings)
    return [
        name
        for name in names
        if len({json.dumps(sourced.run.settings.get(name), sort_keys=True) for sourced in runs}) > 1
    ]


def _test_id(sourced: SourcedRun, varying: Sequence[str]) -> str:
    name = f"{sourced.tool}::{sourced.run.test}"
    if not varying:
        return name
    listed = ",".join(
        f"{_IN_IDS.get(name, name)}={_plain(sourced.run.settings.get(name))}" for name in varying
    )
    return f"{name}[{shortened(listed)}]"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _workload_hash(sourced: SourcedRun) -> str:
    """Return a hash that identifies the work; it never equals that of a test of this plugin."""
    work = {"imported": sourced.tool, "test": sourced.run.test, **sourced.run.workload}
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def _record(
    tests: Mapping[str, Sequence[SourcedRun]], group: Sequence[SourcedRun], stated: StatedFacts
) -> BaselineRecord:
    runs = [sourced for alike in tests.values() for sourced in alike]
    first, identity = runs[0], runs[0].run.identity
    varying = _varying(group)
    own = {
        name: {n: alike[0].run.settings.get(n) for n in varying} for name, alike in tests.items()
    }
    common = {n: v for n, v in first.run.settings.items() if n not in varying}
    model, model_note = _model(first, stated)
    dates = [_recorded(sourced, stated) for sourced in runs]
    notes = (
        *_machine_notes(first, stated),
        *model_note,
        *dict.fromkeys(note for _, note in dates if note),
    )
    commit = identity.commit
    sources = dict.fromkeys(sourced.source for sourced in runs)
    return BaselineRecord(
        recorded=max(date for date, _ in dates),
        provenance=Provenance(
            commit=commit.commit if commit is not None else None,
            dirty=commit is not None and commit.dirty,
            branch=commit.branch if commit is not None else None,
            plugin="",
            python=identity.python or "",
            engine=identity.engine or first.tool,
            engine_version=identity.engine_version or "",
            backend=str(identity.machine.get("backend", "")),
        ),
        model=model,
        config=common,
        machine=_machine(first, stated),
        session=RecordedSession(
            seed=0,
            processes=min(map(len, tests.values())),
            iterations=max(len(v) for sourced in runs for v in sourced.run.metrics.values()),
        ),
        imported=ImportOrigin(
            tool=first.tool,
            version=identity.version or "",
            files=tuple(sources),
            runs=tuple(sourced.run.digest for sourced in runs),
            notes=notes,
        ),
        tests={name: _test(alike, own[name]) for name, alike in tests.items()},
    )


def _test(runs: Sequence[SourcedRun], settings: Mapping[str, Any]) -> TestRecord:
    """Return a test with a sample for each run; metrics that only some runs have are left out."""
    first = runs[0]
    names = [n for n in first.run.metrics if all(n in sourced.run.metrics for sourced in runs)]
    return TestRecord(
        workload=_workload_hash(first),
        summary=f"imported from {first.tool}: {first.run.summary}",
        invalid=tuple(dict.fromkeys(why for sourced in runs for why in sourced.run.invalid)),
        settings=settings,
        metrics={
            name: MetricRecord(
                get_metric(name).unit.value,
                tuple(tuple(sourced.run.metrics[name]) for sourced in runs),
            )
            for name in names
        },
    )


def _machine(sourced: SourcedRun, stated: StatedFacts) -> Machine:
    """Describe the machine as the user or the file does; it never matches this machine.

    An unknown machine matches no other, so nothing is judged across files.
    """
    facts = {"imported": sourced.tool, **sourced.run.identity.machine}
    if stated.machine is not None:
        facts["machine (named by the user)"] = stated.machine
        shown = stated.machine
    elif sourced.run.identity.machine:
        shown = "-".join(_words(value) for value in sourced.run.identity.machine.values())
    else:
        facts["machine"] = (
            f"{_UNKNOWN} ({sourced.source.name}, SHA-256 {sourced.source.sha256[:_SHORT]})"
        )
        shown = f"{_UNKNOWN}-machine"
    return Machine(_key(f"{KEY_PREFIX}{sourced.tool}_{shown}"), facts, {})


def _key(name: str) -> str:
    """Return a name for a folder; a name that is too long is cut and ends with a digest."""
    if len(name) <= KEY_LENGTH:
        return safe_name(name)
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return safe_name(f"{safe_name(name)[: KEY_LENGTH - 9]}-{digest}")


def _words(value: object) -> str:
    return str(value).replace("(R)", "").replace("(TM)", "").strip()


def _machine_notes(sourced: SourcedRun, stated: StatedFacts) -> tuple[str, ...]:
    if stated.machine is not None:
        return (_MACHINE_STATED,)
    return () if sourced.run.identity.machine else (_MACHINE_UNKNOWN,)


def _model(sourced: SourcedRun, stated: StatedFacts) -> tuple[ModelIdentity, tuple[str, ...]]:
    if stated.model is not None:
        return ModelIdentity(stated.model, None), (_MODEL_STATED,)
    if sourced.run.identity.model is not None:
        return ModelIdentity(sourced.run.identity.model, None), ()
    return ModelIdentity(f"{_UNKNOWN} ({sourced.source.sha256[:_SHORT]})", None), (_MODEL_UNKNOWN,)


def _recorded(sourced: SourcedRun, stated: StatedFacts) -> tuple[str, str]:
    """Return when a run was made, and a note on the source of the time unless it is the file."""
    if sourced.run.recorded is not None:
        return sourced.run.recorded, ""
    if stated.recorded is not None:
        return stated.recorded, _DATE_STATED
    return sourced.modified, _DATE_MODIFIED
