"""The result of a search for better settings, as plain data: the only input of its reports.

Changes are fractions, as everywhere: positive is worse (0.05 is 5% slower, -0.5 half the time).
Values are in the metric's base unit. ``stored_json.dump`` and ``read`` turn it into JSON and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_llmperf.stored_json import Stored

#: What became of a point: ``measured`` beside the best one so far; ``lost`` to it, far or provably
#: slower; ``does not fit`` into memory; ``unsupported`` by the engine or the model; ``rejected`` by
#: a bound on quality or memory; ``failed``: the engine crashed or hung; ``out of time``.
Outcome = Literal[
    "measured", "lost", "does not fit", "unsupported", "rejected", "failed", "out of time"
]
#: Outcomes of points whose race was decided; the others are listed with their reasons.
COMPARED: tuple[Outcome, ...] = ("measured", "lost")
#: Whether a limit is kept; ``unknown`` at the edge of the noise, or where nothing was measured.
TargetState = Literal["met", "missed", "unknown"]
#: 1: settings; 2: models and quantizations; 3: neighbours of the best point.
Phase = Literal[1, 2, 3]


@dataclass(frozen=True)
class Level(Stored):
    """The level of one metric.

    Attributes:
        metric: its name, such as ``tokens_per_sec``.
        value: in its base unit.
        test: node id of the test; the workload's name where none was recorded from a test.
    """

    metric: str
    value: float
    test: str = ""


@dataclass(frozen=True)
class MetricChange(Stored):
    """Change of one metric, from pairs of processes that ran interleaved.

    Attributes:
        metric: its name.
        value: its level with the changed settings; None where the metric has none.
        against: its level on the other side of the pairs.
        change: a fraction, positive is worse.
        low, high: its anytime-valid 95% interval; None with fewer than three pairs.
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
        phase: that proposed it.
        settings: values of the ``llm`` section that differ from today's configuration.
        outcome: what became of it.
        reason: of any outcome but ``measured``, one sentence; else empty.
        metrics: its changes against the point that was the best then.
        against: number of that point; 0 is today's configuration.
        pairs: complete pairs of processes.
        seconds: that it took, loading included.
        took_over: it became the best point.
        origin: who proposed it: a cause's name, ``one at a time``, ``sampler``, ``neighbour``.
        score: objective against today's configuration, on the log scale; negative is better.
            None unless measured.
        levels: every metric that is known of it.
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
        """Whether its answers were over the bound, which is checked after it won its race."""
        return self.outcome == "rejected" and bool(self.metrics)


def unbeaten(points: Sequence[Point]) -> list[Point]:
    """Return the points that became the best, and that no other one took over from."""
    leading = [one for one in points if one.took_over and one.score is not None]
    beaten = {one.against for one in leading}
    return [one for one in leading if one.number not in beaten]


@dataclass(frozen=True)
class Target(Stored):
    """One limit, and whether it is kept.

    Attributes:
        metric: its name.
        limit: in the metric's base unit; at least for rates, at most for all others.
        before: with today's configuration.
        after: with the winner; ``unknown`` without one.
        value_before, value_after: the levels; None where unknown.
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
    """A configuration and what was measured of it.

    Attributes:
        settings: its resolved ``llm`` section; ``model_path`` as the user wrote it.
        changed: the part that differs from today's configuration; empty for that one.
        levels: its metrics, from the final comparison if there was one.
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
        proven: it is an improvement, at the session's rate of false alarms.
        verdict: ``improved``, ``slower``, ``no proven improvement``, or why it can't be judged.
        log_evidence: natural logarithm of the evidence for an improvement; None for a metric that
            is shown only.
        log_threshold: the evidence that proves it.
        objective: whether the search was for this metric.
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
        gains: of every metric.
        pairs: complete pairs.
        seconds: that it took.
        false_alarms: chance of proving any improvement where there is none.
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
        phases: those that this run worked on.
        pareto: numbers of the points that no other one beats in every metric that they have of
            ``pareto_metrics``; 0 is today's configuration.
        pareto_metrics: names of the metrics of the front.
        objective: names of the metrics that the search was for.
        seconds: measuring time of this run.
        budget: the time that it might take.
        study: the study's name.
        storage: the URL or file that keeps it.
        seed: of the proposals.
        machine: key of the machine.
        model: name of the model, quantization included.
        engine: the engine and its version.
        workload: the tests, or the described workload: a line for each.
        interrupted: the user stopped it.
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
        """The point with the best score of those that were not beaten; None if none took over."""
        return min(unbeaten(self.points), key=lambda one: one.score or 0.0, default=None)
