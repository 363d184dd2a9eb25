"""The stored record of one session, and its JSON form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, PlainSerializer, WrapSerializer

from pytest_llmperf.baselines.folder import MAX_BYTES
from pytest_llmperf.baselines.json_text import dumps, parse
from pytest_llmperf.baselines.tolerances import CalibratedTolerance
from pytest_llmperf.config.extra_hashes import EXTRA_HASHES, without_extra_values
from pytest_llmperf.machine.fingerprint import Machine
from pytest_llmperf.metrics import LARGEST, SMALLEST, is_plausible, known_metric
from pytest_llmperf.request_digest import StoredDigest
from pytest_llmperf.stored_json import (
    LEFT_OUT,
    Flag,
    Number,
    Stored,
    Whole,
    dump,
    expect,
    inside,
    read,
    unexpected,
)
from pytest_llmperf.text import count

if TYPE_CHECKING:
    from pytest_llmperf.engine.info import EngineInfo

#: Raised whenever an older plugin would misread what a newer one writes.
SCHEMA_VERSION = 1
#: Format of ``recorded``, always UTC.
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
#: Prefix of the machine keys of imported sessions, and of no others.
KEY_PREFIX = "imported-"
_SHORT = 12
#: Annotates a mapping that is written sorted by key.
_SORTED = WrapSerializer(lambda mapping, dumped: dict(sorted(dumped(mapping).items())))


def _is_time(text: str) -> bool:
    try:
        # strptime also takes 2026-1-2, which would sort wrongly.
        return datetime.strptime(text, TIME_FORMAT).strftime(TIME_FORMAT) == text
    except ValueError:
        return False


def _hex(digits: int) -> Any:
    """Expect this many hexadecimal digits, or 64 (a commit of a SHA-256 repository), or null."""
    pattern = re.compile(rf"[0-9a-f]{{{digits}}}|[0-9a-f]{{64}}")
    return expect(
        f"{digits} hexadecimal digits or null", lambda text: text is None or pattern.fullmatch(text)
    )


@dataclass(frozen=True)
class Provenance(Stored):
    """Origin of a record: commit, branch, versions, digests.

    Attributes:
        commit: 40 hexadecimal digits, or None outside a repository.
        dirty: whether tracked files had uncommitted changes.
        branch: None if HEAD was detached or there was no repository.
        plugin, python, engine, engine_version, backend: the software that measured.
        code: a digest of the project's files without the baselines; None outside a repository.
        environment: a digest of the installed packages and of the variables that an engine's
            speed depends on; None where ``code`` is.
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
    """Identity of a model: the hash of its files, or its name if it has none.

    Attributes:
        name: for display, if there is a hash.
        sha256: of the file (of several, over all of them), 64 hexadecimal digits; None for an
            engine without a model file.
        size_bytes, quantization: for display; None if unknown.
    """

    name: str
    sha256: Annotated[str | None, _hex(64)]
    size_bytes: Whole | None = None
    quantization: str | None = None

    @property
    def label(self) -> str:
        """The name to display, with the quantization unless the name has it."""
        if self.quantization and self.quantization not in self.name:
            return f"{self.name} {self.quantization}"
        return self.name


@dataclass(frozen=True)
class RecordedSession(Stored):
    """Measurement settings and findings of a recorded session.

    Attributes:
        seed: random seed of the order of tests in each round.
        processes, iterations: planned numbers; the samples have the actual ones.
        findings: problems noticed on the machine, as reported to the user.
        calibration: the machine's calibration that the session was judged with, plain JSON;
            None if the machine had not been calibrated.
        fitness: the fitness checks that found something, each with its worst severity.
    """

    seed: Whole
    processes: Whole
    iterations: Whole
    findings: tuple[str, ...] = ()
    calibration: Mapping[str, Any] | None = field(default=None, metadata=LEFT_OUT)
    fitness: Mapping[str, str] = field(default_factory=dict, metadata=LEFT_OUT)


def _check_hashes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check the hashes of ``extra``, and drop its values, which are never stored."""
    hashes = settings.get(EXTRA_HASHES, {})
    if not isinstance(hashes, dict):
        raise unexpected("an object", hashes, EXTRA_HASHES)
    for key, digest in hashes.items():
        if not isinstance(digest, str):
            raise unexpected("a string", digest, EXTRA_HASHES, key)
    return {key: value for key, value in settings.items() if key != "extra"}


#: Resolved engine settings, plain JSON; the values of ``llm.extra`` are replaced by hashes.
Settings = Annotated[
    Mapping[str, Any], AfterValidator(_check_hashes), PlainSerializer(without_extra_values)
]


@dataclass(frozen=True)
class Loaded(Stored):
    """Layers, threads and build that an engine reported; None or empty if it did not.

    Attributes:
        layers_on_gpu: layers on any GPU, including the output layer.
        total_layers: layers of the model, including the output layer.
        placement: why not all of them are on a GPU, in words.
        threads, threads_batch: CPU threads that decode and prefill.
        build: compile options, as the engine prints them.
    """

    layers_on_gpu: Whole | None = None
    total_layers: Whole | None = None
    placement: str = ""
    threads: Whole | None = None
    threads_batch: Whole | None = None
    build: str = ""

    @classmethod
    def of(cls, info: EngineInfo) -> Loaded:
        """Take the recorded part of an engine's report."""
        gpu = info.gpu
        return cls(
            layers_on_gpu=None if gpu is None else gpu.layers_on_gpu,
            total_layers=None if gpu is None else gpu.total_layers,
            placement="" if gpu is None else gpu.explain(),
            threads=info.n_threads or None,
            threads_batch=info.n_threads_batch or None,
            build=info.build_flags.strip(),
        )


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


Digest = Annotated[str, expect("64 hexadecimal digits", _is_digest)]


@dataclass(frozen=True)
class SourceFile(Stored):
    """A result file that was imported: its name without folders, and the SHA-256 of its content."""

    name: str
    sha256: Digest

    def __str__(self) -> str:
        return f"{self.name} (SHA-256 {self.sha256[:_SHORT]})"


@dataclass(frozen=True)
class ImportOrigin(Stored):
    """Origin of an imported session.

    Attributes:
        tool: the tool that measured.
        version: the tool's version; empty if its file does not say.
        files: the files that the runs come from.
        runs: a digest of each run as the file has it, by which it is recognised later.
        notes: facts that the files do not contain, and what the user stated instead.
    """

    tool: str
    version: str
    files: tuple[SourceFile, ...]
    runs: tuple[Digest, ...]
    notes: tuple[str, ...] = field(default=(), metadata=LEFT_OUT)

    @property
    def label(self) -> str:
        """The tool and its version, for display."""
        return f"{self.tool} {self.version}".strip()

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.files[:3]))
        more = f" and {count(len(self.files) - 3, 'more file')}" if len(self.files) > 3 else ""
        return f"imported from {self.label}: {shown}{more}"


#: Processes x iterations, in the metric's base unit.
Samples = Annotated[
    tuple[tuple[Number, ...], ...],
    PlainSerializer(lambda samples: [[float(x) for x in process] for process in samples]),
]


@dataclass(frozen=True)
class MetricRecord(Stored):
    """One metric's raw samples, by process, in ``unit``."""

    unit: str
    samples: Samples


def check_metric(name: str, unit: str, samples: Samples) -> None:
    """Check samples against the metric called ``name``; an unknown one may have any unit.

    Raises:
        ItemError: which item is wrong.
    """
    metric = known_metric(name)
    if metric is not None and unit != metric.unit.value:
        raise unexpected(repr(metric.unit.value), unit, "unit")
    if not samples or not all(samples):
        what = "at least one process with at least one sample each"
        raise unexpected(what, list(map(list, samples)), "samples")
    zero = metric is None or metric.resolution is not None
    for i, process in enumerate(samples):
        for j, number in enumerate(process):
            if not (is_plausible(number) or (zero and number == 0)):
                between = f"a number from {SMALLEST:g} to {LARGEST:g}"
                expected = f"0 or {between}" if zero else between
                raise unexpected(expected, number, "samples", i, j)


def _check_all(metrics: Mapping[str, MetricRecord]) -> Mapping[str, MetricRecord]:
    for name, metric in metrics.items():
        with inside(name):
            check_metric(name, metric.unit, metric.samples)
    return metrics


#: A test's metrics by name.
Metrics = Annotated[Mapping[str, MetricRecord], AfterValidator(_check_all), _SORTED]


def is_measurable(number: float, name: str) -> bool:
    """Whether a value is possible for the metric called ``name``; an unknown one may be 0."""
    metric = known_metric(name)
    return metric.allows(number) if metric is not None else number == 0 or is_plausible(number)


@dataclass(frozen=True)
class TestRecord(Stored):
    """One recorded test: its workload and its metrics. The fields are in the file's order.

    Attributes:
        workload: hash of the workload.
        summary: the workload in words.
        invalid: why these samples may not be used for verdicts; empty if they may.
        accepted: why this session's level was accepted as the new one, or None; tests are then
            no longer compared with older sessions of the same workload.
        requests: digests of the workload's requests, to name what changed; only the first ones
            if there are very many.
        settings: the engine settings that this test's cell of a sweep has instead of the
            session's ``config``: those that it names, and those that follow from them. Empty
            for a test with the session's own.
        loaded: state of the engine loaded with ``settings``; None if they are empty.
        tolerances: by metric, those that a calibration gave (``tolerance: auto``), whether the
            session was judged by pairs or by stored sessions; empty without a calibration.
    """

    __test__ = False

    workload: str
    summary: str
    invalid: tuple[str, ...] = field(default=(), kw_only=True)
    accepted: str | None = field(default=None, metadata=LEFT_OUT, kw_only=True)
    requests: tuple[StoredDigest, ...] = field(default=(), metadata=LEFT_OUT, kw_only=True)
    settings: Settings = field(default_factory=dict, metadata=LEFT_OUT, kw_only=True)
    loaded: Loaded | None = field(default=None, metadata=LEFT_OUT, kw_only=True)
    tolerances: Annotated[Mapping[str, CalibratedTolerance], _SORTED] = field(
        default_factory=dict, metadata=LEFT_OUT, kw_only=True
    )
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class BaselineRecord(Stored):
    """One recorded session. The fields are in the file's order.

    Attributes:
        recorded: time, UTC, as ``2026-11-22T23:59:26Z``.
        config: the resolved engine settings, plain JSON; ``extra`` as hashes.
        loaded: state of the loaded engine; None where every test is a cell of a sweep.
        imported: its origin if another tool measured it; tests of this plugin are never
            compared with such a session.
        tests: by node id.
    """

    recorded: Annotated[str, expect("a UTC time such as 2026-11-22T23:59:26Z", _is_time)]
    provenance: Provenance
    model: ModelIdentity
    config: Settings
    loaded: Loaded | None = field(default=None, metadata=LEFT_OUT)
    machine: Machine
    session: RecordedSession
    imported: ImportOrigin | None = field(default=None, metadata=LEFT_OUT)
    tests: Annotated[Mapping[str, TestRecord], _SORTED]

    def config_of(self, nodeid: str) -> Mapping[str, Any]:
        """Return the engine settings that a test was measured with."""
        own = self.tests[nodeid].settings if nodeid in self.tests else {}
        return {**self.config, **own}

    def loaded_of(self, nodeid: str) -> Loaded | None:
        """Return the state of the engine that a test was measured with."""
        test = self.tests.get(nodeid)
        return test.loaded if test is not None and test.settings else self.loaded


def now() -> str:
    """Return the current time in the format of ``recorded``."""
    return datetime.now(timezone.utc).strftime(TIME_FORMAT)


def to_text(record: BaselineRecord) -> str:
    """Return the text of a record's file.

    Keys are in a stable order, numbers have 9 significant digits, each process has one line.

    Raises:
        ValueError: a value can't be stored or read back; the message names it.
    """
    text = dumps({"schema": SCHEMA_VERSION, **dump(record)})
    # Never write a file that could not be read back: every later session would stop at it.
    if (size := len(text.encode())) > MAX_BYTES:
        raise ValueError(f"{size / 2**20:.3g} MiB of text; only {MAX_BYTES >> 20} MiB are read")
    from_json(parse(text))
    return text


def from_json(data: Any) -> BaselineRecord:
    """Rebuild a record from parsed JSON.

    Keys that this version does not know are ignored: changes of meaning raise the schema
    version instead.

    Raises:
        ShapeError: which item is wrong, what was expected and what it is.
    """
    return read(BaselineRecord, data)
