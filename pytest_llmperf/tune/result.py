"""Result of a search for better settings, as plain data: the only input of its reports.

Changes are fractions, as everywhere: positive is worse (0.05 is 5% slower, -0.5 half the time).
Values are in the metric's base unit. ``stored_json.dump`` and ``read`` turn it into JSON and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_llmperf.stored_json import Stored

#: Outcome of a point: ``measured`` beside the best point so far; ``lost`` to it, far or provably
#: slower; ``does not fit`` into memory; ``unsupported`` by the engine or the model; ``rejected`` by
#: a bound on quality or memory; ``failed``: the engine crashed or hung; ``out of time``.
Outcome = Literal[
    "measured", "lost", "does not fit", "unsupported", "rejected", "failed", "out of time"
]
#: Outcomes of points whose race was decided; other points are listed with their reasons.
COMPARED: tuple[Outcome, ...] = ("measured", "lost")
#: Whether a limit is kept; ``unknown`` if it is within the noise, or nothing was measured.
TargetState = Literal["met", "missed", "unknown"]
#: 1: settings; 2: models and quantizations; 3: neighbours of the best point.
Phase = Literal[1, 2, 3]


@dataclass(frozen=True)
class Level(Stored):
    """The level of one metric.

    Attributes:
        metric: name of the metric, such as ``tokens_per_sec``.
        value: the level in the metric's base unit.
        test: node id of the test; the workload's name if it was not recorded from a test.
    """

    metric: str
    value: float
    test: str = ""


@dataclass(frozen=True)
class MetricChange(Stored):
    """Change of one metric, from pairs of processes that ran interleaved.

    Attributes:
        metric: name of the metric.
        value: level with the changed settings; None if unknown.
        against: level on the other side of the pairs; None if unknown.
        change: a fraction, positive is worse.
        low, high: anytime-valid 95% interval of the change; None with fewer than three pairs.
        test: node id of the test, or the workload's name.
    """

    metric: str
    value: float | None
    against: float | None
    change: float | None
    low: float | None = None
    high: float | None = None
    test: str = ""


@dataclass(frozen=True)
class Point(Stored):
    """One combination of settings that was proposed.

    Attributes:
        number: from 1, in the order of the study.
        phase: the phase that proposed it.
        settings: values of the ``llm`` section that differ from today's configuration.
        outcome: ``measured``, or how the point failed.
        reason: of any outcome other than ``measured``, one sentence; otherwise empty.
        metrics: changes against the point that was the best at that time.
        against: number of that point; 0 is today's configuration.
        pairs: number of complete pairs of processes.
        seconds: time that it took, loading included.
        took_over: whether it became the best point.
        origin: source of the proposal: a cause's name, ``one at a time``, ``sampler``, ...
        score: objective against today's configuration, on the log scale; negative is better.
            None unless measured.
        levels: levels of all its known metrics.
    """

    number: int
    phase: Phase
    settings: Mapping[str, Any]
    outcome: Outcome
    reason: str = ""
    metrics: tuple[MetricChange, ...] = ()
    against: int = 0
    pairs: int = 0
    seconds: float = 0.0
    took_over: bool = False
    origin: str = ""
    score: float | None = None
    levels: tuple[Level, ...] = ()

    @property
    def rejected_answers(self) -> bool:
        """Whether it won its race, but its answers then exceeded the bound."""
        return self.outcome == "rejected" and bool(self.metrics)


def unbeaten(points: Sequence[Point]) -> list[Point]:
    """Return the points that became the best and that no later point replaced."""
    leading = [point for point in points if point.took_over and point.score is not None]
    beaten = {point.against for point in leading}
    return [point for point in leading if point.number not in beaten]


@dataclass(frozen=True)
class Target(Stored):
    """One limit, and whether it is kept.

    Attributes:
        metric: name of the metric.
        limit: in the metric's base unit; a minimum for rates, a maximum for all others.
        before: whether today's configuration keeps it.
        after: whether the winner keeps it; ``unknown`` without a winner.
        value_before, value_after: the levels; None if unknown.
        test: node id of the test, or the workload's name.
    """

    metric: str
    limit: float
    before: TargetState
    after: TargetState
    value_before: float | None = None
    value_after: float | None = None
    test: str = ""


@dataclass(frozen=True)
class Configuration(Stored):
    """A configuration and its measured levels.

    Attributes:
        settings: the resolved ``llm`` section; ``model_path`` as the user wrote it.
        changed: settings that differ from today's configuration; empty for the latter.
        levels: levels of its metrics, from the final comparison if there was one.
        point: number of the point; 0 is today's configuration.
        model_file: the GGUF file that its engine loads; None for an engine without one.
    """

    settings: Mapping[str, Any]
    changed: Mapping[str, Any] = field(default_factory=dict)
    levels: tuple[Level, ...] = ()
    point: int = 0
    model_file: str | None = None


@dataclass(frozen=True)
class Gain(Stored):
    """A change of one metric, from the final comparison with today's configuration.

    Attributes:
        change: the change of the winner against today's configuration, with its interval.
        proven: whether it is a proven improvement, at the session's false-alarm rate.
        verdict: ``improved``, ``slower``, ``no proven improvement``, or why it can't be judged.
        log_evidence: natural logarithm of the evidence for an improvement; None for a metric that
            is only shown.
        log_threshold: the value of ``log_evidence`` that proves an improvement.
        objective: whether the search aimed to improve this metric.
    """

    change: MetricChange
    proven: bool
    verdict: str
    log_evidence: float | None = None
    log_threshold: float | None = None
    objective: bool = False


@dataclass(frozen=True)
class Confirmation(Stored):
    """The final comparison: fresh pairs of the winner and today's configuration.

    Attributes:
        improved: whether an improvement of the objective is proven.
        gains: change of every metric.
        pairs: number of complete pairs.
        seconds: duration of the comparison.
        false_alarms: chance that any improvement is called proven where there is none.
        text: the outcome in one sentence: ``improved ...`` or ``no proven improvement: ...``.
    """

    improved: bool
    gains: tuple[Gain, ...]
    pairs: int
    seconds: float
    false_alarms: float
    text: str


@dataclass(frozen=True)
class TuneResult(Stored):
    """Everything about one search.

    Attributes:
        before: today's configuration.
        winner: the configuration to use; None if no improvement was proven.
        confirmed: the final comparison; None if no point looked better than today's configuration.
        conclusion: the outcome in one sentence.
        targets: limits, before and after.
        points: every proposed point, of all phases and of earlier runs of the study.
        phases: the phases that this run worked on.
        pareto: numbers of the points that no other point beats in all the ``pareto_metrics`` that
            they have; 0 is today's configuration.
        pareto_metrics: names of the metrics of the front.
        objective: names of the metrics that the search aimed to improve.
        seconds: duration of this run.
        budget: time limit of this run, seconds.
        study: the study's name.
        storage: URL of the study's storage.
        seed: random seed of the proposals.
        machine: key of the machine.
        model: name of the model, quantization included.
        engine: name and version of the engine.
        workload: one line for each test, or for the described workload.
        interrupted: whether the user stopped the run.
        notes: further remarks, one line each.
    """

    before: Configuration
    winner: Configuration | None
    confirmed: Confirmation | None
    conclusion: str
    targets: tuple[Target, ...]
    points: tuple[Point, ...]
    phases: tuple[Phase, ...]
    pareto: tuple[int, ...]
    pareto_metrics: tuple[str, ...]
    objective: tuple[str, ...]
    seconds: float
    budget: float
    study: str
    storage: str
    seed: int
    machine: str
    model: str
    engine: str
    workload: tuple[str, ...]
    interrupted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Point | None:
        """The unbeaten point with the best score; None if no point became the best."""
        return min(unbeaten(self.points), key=lambda point: point.score or 0.0, default=None)
