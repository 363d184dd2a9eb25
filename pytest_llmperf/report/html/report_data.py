"""What the page shows of a JSON report, as checked dataclasses.

Keys that earlier versions of the plugin did not write have defaults, so that their reports
give a page with fewer charts. See ``report/json_report.py`` for what each key means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator

from pytest_llmperf.baselines.files import FileKind, read_file
from pytest_llmperf.compare.report_file import REPORT_SCHEMA
from pytest_llmperf.stored_json import LATER, Flag, Number, Stored, Whole, read, unexpected

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal[
    "error",
    "invalid",
    "regressed",
    "missed",
    "inconclusive",
    "workload changed",
    "no baseline",
    "pass",
    "improved",
]
Texts = tuple[str, ...]
Values = tuple[Number, ...]
Maybe = Number | None


@dataclass(frozen=True)
class PageBaseline(Stored):
    """Level of the stored sessions, or of the base side."""

    value: Number
    low: Maybe
    high: Maybe
    sessions: Whole
    sources: Texts
    levels: Values = field(default=(), metadata=LATER)


@dataclass(frozen=True)
class PageReason(Stored):
    """Finding of one strategy."""

    verdict: Kind
    strategy: str
    text: str


@dataclass(frozen=True)
class PageProgress(Stored):
    """How a comparison went."""

    against: Literal["base", "target"]
    differences: tuple[Maybe, ...]
    looks: tuple[tuple[Whole, Maybe, Maybe, Maybe], ...]


@dataclass(frozen=True)
class PageChange(Stored):
    """A change point of a metric's history."""

    index: Whole
    slowdown: Number
    low: Number
    high: Number


@dataclass(frozen=True)
class PageLevels(Stored):
    """A metric's history."""

    sessions: tuple[Whole, ...]
    values: Values
    changes: tuple[PageChange, ...]


@dataclass(frozen=True)
class PageRow(Stored):
    """What speed and quality have in common: a figure, its limit and its verdict."""

    name: str
    label: str
    unit: str
    direction: Literal["higher", "lower"]
    limit: Maybe
    value: Maybe
    low: Maybe
    high: Maybe
    verdict: Kind | None
    explanation: str | None


@dataclass(frozen=True)
class PageMetric(PageRow):
    """A metric of a test."""

    gated: Flag
    tolerance: Number
    samples: tuple[Values, ...]
    base_samples: tuple[Values, ...]
    baseline: PageBaseline | None
    change: Maybe
    notes: Texts
    reasons: tuple[PageReason, ...]
    progress: PageProgress | None = field(default=None, metadata=LATER)
    history: PageLevels | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class PageQuality(Stored):
    """The judged figures of the answers' quality."""

    checks: tuple[PageRow, ...]


@dataclass(frozen=True)
class PageWorkload(Stored):
    """What a test asks of the engine."""

    summary: str
    hash: str


@dataclass(frozen=True)
class PageFitness(Stored):
    """A finding of a check."""

    name: str
    severity: str
    text: str


@dataclass(frozen=True)
class PageCause(Stored):
    """A diagnosed cause."""

    name: str
    title: str
    evidence: str
    change: str
    certain: Flag


@dataclass(frozen=True)
class PageRooflineDevice(Stored):
    """What a token reads from one device, and how fast that is read."""

    weight_bytes: Number
    cache_bytes: Number
    bandwidth: Maybe
    how: str | None


@dataclass(frozen=True)
class PageRoofline(Stored):
    """How near decode is to the memory's limit."""

    share: Maybe
    problem: str | None
    limit_tokens_per_sec: Maybe = field(default=None, metadata=LATER)
    bytes_per_token: Maybe = field(default=None, metadata=LATER)
    depth: Maybe = field(default=None, metadata=LATER)
    devices: dict[str, PageRooflineDevice] = field(default_factory=dict, metadata=LATER)


@dataclass(frozen=True)
class PageCourse(Stored):
    """A GPU's counters over time."""

    seconds: Values
    processes: tuple[Whole, ...]
    counters: dict[str, tuple[Maybe, ...]]


@dataclass(frozen=True)
class PageSpread(Stored):
    """Mean and extremes of a counter."""

    mean: Number
    min: Number
    max: Number


@dataclass(frozen=True)
class PageGpuTelemetry(Stored):
    """One GPU while a test was measured."""

    gpu: Whole | None
    used: Flag
    samples: Whole
    counters: dict[str, PageSpread]
    lowered_clocks: dict[str, Whole]
    xids: tuple[Whole, ...]
    lost: Flag
    course: PageCourse | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class PageTelemetry(Stored):
    """All GPUs while a test was measured."""

    hz: Number
    gpus: tuple[PageGpuTelemetry, ...]


@dataclass(frozen=True)
class PageTimeline(Stored):
    """One iteration, token by token."""

    side: Literal["candidate", "base"]
    picked: Literal["typical", "slowest"]
    process: Whole
    iteration: Whole
    seconds: Number
    first_tokens: Values
    gaps: Values
    gaps_per_value: Whole
    requests: tuple[Whole, ...]
    stalls: tuple[Whole, ...]


@dataclass(frozen=True)
class PageTest(Stored):
    """A test."""

    __test__ = False

    nodeid: str
    verdict: Kind | None
    workload: PageWorkload
    settings: dict[str, Any]
    processes: Whole
    pairs: Whole
    earlier_pairs: Whole
    against: str | None
    findings: Texts
    differences: Texts
    causes: Texts
    diagnosis: tuple[PageCause, ...]
    fitness: tuple[PageFitness, ...]
    roofline: PageRoofline | None
    metrics: tuple[PageMetric, ...]
    telemetry: PageTelemetry | None
    quality: PageQuality | None = field(default=None, metadata=LATER)
    timelines: tuple[PageTimeline, ...] = field(default=(), metadata=LATER)
    command: str | None = field(default=None, metadata=LATER)
    doctor_command: str | None = field(default=None, metadata=LATER)

    @property
    def rows(self) -> tuple[PageRow, ...]:
        """Speed, then quality."""
        return (*self.metrics, *(self.quality.checks if self.quality else ()))


@dataclass(frozen=True)
class PagePastSession(Stored):
    """An earlier recorded session."""

    recorded: str
    commit: str | None
    dirty: Flag
    file: str


@dataclass(frozen=True)
class PageHistory(Stored):
    """The earlier sessions that histories refer to."""

    sessions: tuple[PagePastSession, ...]
    problem: str | None


@dataclass(frozen=True)
class PageGpu(Stored):
    """A GPU of the machine."""

    index: Whole | None
    name: str


@dataclass(frozen=True)
class PageSession(Stored):
    """The session."""

    machine: str
    model: str
    engine: str
    processes: Whole
    iterations: Whole
    seed: Whole
    wall_s: Number
    busy: Texts
    notes: Texts
    baselines: Texts
    recorded_to: str | None
    against: str | None
    base_commit: str | None
    side_differences: Texts
    false_alarms: Number
    fitness: tuple[PageFitness, ...]
    gpus: tuple[PageGpu, ...]
    measured_at: str | None = field(default=None, metadata=LATER)
    command: str | None = field(default=None, metadata=LATER)
    provenance: dict[str, Any] | None = field(default=None, metadata=LATER)
    model_file: dict[str, Any] | None = field(default=None, metadata=LATER)
    config: dict[str, Any] = field(default_factory=dict, metadata=LATER)
    machine_facts: dict[str, Any] = field(default_factory=dict, metadata=LATER)
    history: PageHistory | None = field(default=None, metadata=LATER)


def _consistent(test: PageTest) -> PageTest:
    """Check lists that belong together, whose items charts show in one place."""
    for number, metric in enumerate(test.metrics):
        levels = metric.history
        if levels is not None and len(levels.sessions) != len(levels.values):
            raise unexpected(
                f"{len(levels.sessions)} values", levels.values, "metrics", number, "history"
            )
    for gpu in test.telemetry.gpus if test.telemetry else ():
        course = gpu.course
        for name, values in course.counters.items() if course else ():
            if course is not None and len(values) != len(course.seconds):
                raise unexpected(f"{len(course.seconds)} values", values, "telemetry", name)
    return test


@dataclass(frozen=True)
class PageReport(Stored):
    """A session's report."""

    session: PageSession
    counts: dict[Kind, Whole]
    tests: tuple[Annotated[PageTest, AfterValidator(_consistent)], ...]

    @property
    def past(self) -> tuple[PagePastSession, ...]:
        """The earlier sessions that histories refer to."""
        return self.session.history.sessions if self.session.history else ()


def read_report_file(path: Path) -> PageReport:
    """Read and check a report's file.

    Raises:
        BadRecordError: it is unreadable, damaged, of another shape or of a newer schema.
    """
    return read_file(path, _REPORT)


def report_of(data: Any) -> PageReport:
    """Check parsed JSON of a report.

    Raises:
        ShapeError: an item is missing or wrong; the message names it.
    """
    return read(PageReport, data)


_REPORT: FileKind[PageReport] = FileKind(
    "a report of a session",
    "write it again: pytest -m perf --llmperf-json FILE",
    REPORT_SCHEMA,
    report_of,
)
