"""Details of a test in a report besides its checks: fitness, GPUs, roofline, load, history.

See ``report/json_report.py`` for what each key means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pytest_llmperf.session.report_history import PastSession
from pytest_llmperf.stored_json import MAY_LACK, Bounded, Flag, Stored, Whole

Texts = tuple[str, ...]
Values = tuple[Bounded, ...]
OptionalNumber = Bounded | None


@dataclass(frozen=True)
class ReportedProgress(Stored):
    """Course of a comparison: the difference of each pair, and the estimate at each look."""

    against: Literal["base", "target"]
    differences: tuple[OptionalNumber, ...]
    looks: tuple[tuple[Whole, OptionalNumber, OptionalNumber, OptionalNumber], ...]


@dataclass(frozen=True)
class ReportedFitness(Stored):
    """A finding of a fitness check."""

    name: str
    severity: str
    text: str


@dataclass(frozen=True)
class ReportedRooflineDevice(Stored):
    """Bytes that one token reads from a device, and the device's bandwidth."""

    weight_bytes: Bounded
    cache_bytes: Bounded
    bandwidth: OptionalNumber
    how: str | None


@dataclass(frozen=True)
class ReportedRoofline(Stored):
    """Share of the limit set by memory that decode reaches."""

    share: OptionalNumber
    problem: str | None
    limit_tokens_per_sec: OptionalNumber = field(default=None, metadata=MAY_LACK)
    devices: dict[str, ReportedRooflineDevice] = field(default_factory=dict, metadata=MAY_LACK)


@dataclass(frozen=True)
class ReportedCourse(Stored):
    """A GPU's counters over time."""

    seconds: Values
    processes: tuple[Whole, ...]
    counters: dict[str, tuple[OptionalNumber, ...]]


@dataclass(frozen=True)
class ReportedSpread(Stored):
    """Mean and extremes of a GPU counter."""

    mean: Bounded
    min: Bounded
    max: Bounded


@dataclass(frozen=True)
class ReportedGpuTelemetry(Stored):
    """One GPU while a test was measured."""

    gpu: Whole | None
    used: Flag
    samples: Whole
    counters: dict[str, ReportedSpread]
    lowered_clocks: dict[str, Whole]
    xids: tuple[Whole, ...]
    lost: Flag
    course: ReportedCourse


@dataclass(frozen=True)
class ReportedTelemetry(Stored):
    """All GPUs while a test was measured."""

    hz: Bounded
    gpus: tuple[ReportedGpuTelemetry, ...]


@dataclass(frozen=True)
class ReportedLoad(Stored):
    """The loads of a test."""

    pattern: str
    arrivals: str
    concurrency: Whole | None
    rate: OptionalNumber
    requests: Whole
    faults: dict[str, Whole]


@dataclass(frozen=True)
class ReportedHistory(Stored):
    """The earlier sessions that histories refer to."""

    sessions: tuple[PastSession, ...]
    problem: str | None


@dataclass(frozen=True)
class ReportedGpu(Stored):
    """A GPU of the machine."""

    index: Whole | None
    name: str
