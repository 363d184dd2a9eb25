"""The search loop: measures points until no promising ones are left or the time is up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_llmperf.config.embedded import cache_dir
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.installed import installed_build
from pytest_llmperf.gate.words import change_words, count
from pytest_llmperf.metrics import METRICS
from pytest_llmperf.session.measuring import device_held
from pytest_llmperf.tune.answers import UncheckedAnswersError
from pytest_llmperf.tune.fit import FreeMemory, MemoryBounds
from pytest_llmperf.tune.levels import changed_levels, completed
from pytest_llmperf.tune.look import FirstLook, LookError
from pytest_llmperf.tune.propose import Queue, TriedSettings, other_models, suggestions
from pytest_llmperf.tune.race import MEMORY, Racer, levels_of_look
from pytest_llmperf.tune.result import Level, Point
from pytest_llmperf.tune.runners import Runners
from pytest_llmperf.tune.space import Demand, Settings, Space, answer_settings, build_space, shown
from pytest_llmperf.tune.study import StartedTrial, Study, identity_name
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.facts import SessionFacts
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.tune.objective import Objective
    from pytest_llmperf.tune.request import TuneRequest

#: Approximate number of replays per process of a race; for loads, the warm-up and the load itself.
_REPLAYS, _LOADS = 5, 1.25

#: Metrics shown in the line that reports a finished point.
_SHOWN = (
    *("end_to_end", "tokens_per_sec", "first_token"),
    *("request_latency", "output_tokens_per_sec", "goodput"),
)

#: Checks the answers of changed settings: returns why they are not good enough, or None. Raises
#: ``UncheckedAnswersError`` if they can't be compared.
Quality = Callable[[Settings], str | None]


@dataclass(frozen=True)
class SearchOutcome:
    """Outcome of a search, before the final comparison proves its gain.

    Attributes:
        points: all finished points of the study.
        best: the best point; None if nothing was better than today's configuration.
        today: the first look at today's configuration.
        study: where the points are stored.
        interrupted: whether the user stopped the search.
    """

    points: tuple[Point, ...]
    best: Point | None
    today: FirstLook
    study: Study
    interrupted: bool = False


class SettingsSearch:
    """One run's search: measures points until no promising ones are left or the time is up.

    Args:
        context: session context of today's configuration.
        request: the options of ``llmperf tune``.
        facts: facts about the session: machine, watch, notes.
        tests: recorded tests to replay.
        objective: the goals that decide which point is better.
        quality: checks the answers of a point before it becomes the best.
    """

    def __init__(
        self,
        context: SessionContext,
        request: TuneRequest,
        facts: SessionFacts,
        tests: Sequence[RecordedTest],
        objective: Objective,
        quality: Quality | None,
    ) -> None:
        self._context = context
        self._setup = context.setup
        self._request = request
        self._facts = facts
        self._tests = tests
        self._objective = objective
        self._quality = quality
        self._tune = context.setup.loaded.config.tune
        self._racer = Racer(context, facts, tests, objective)

    def run(self, info: EngineInfo, end: float, budget: float) -> SearchOutcome:
        """Search until no promising points are left or the deadline has passed.

        Args:
            info: information about the engine of today's configuration.
            end: deadline of the search, on the monotonic clock.
            budget: seconds for the whole run.

        Raises:
            TuneError: today's configuration, or the best point, can't be measured.
            StudyError: the study can't be used.
        """
        self._space = self._build_space(info)
        devices = info.gpu.devices if info.gpu is not None else ()
        self._memory = MemoryBounds(FreeMemory.measure(devices, self._tune.max_memory))
        identity = self._identity()
        self._study = Study.open(
            self._request.study or identity_name(identity),
            self._request.storage,
            cache_dir(os.environ) / "tune",
            identity,
            self._space,
            self._tune.seed,
        )
        self._study.recover()
        self._say_start(budget)
        self._runners = Runners(self._setup, self._tests, self._facts.watch, self._memory)
        with self._device():
            today = self._today = self._runners.best_runner(None).look
        suggested = []
        if self._setup.llm.kind.uses_llama_settings:
            values = next(iter(today.values.values()), {})
            config = self._setup.spec.config
            suggested = suggestions(config, info, self._demand, values, self._space)
        self._queue = Queue(
            self._study, self._space, self._objective, suggested, other_models(self._setup)
        )
        interrupted = False
        try:
            for phase in self._request.phases:
                while time.monotonic() + self._least_seconds(today) < end:
                    trial = self._queue.start(phase)
                    if trial is None:
                        break
                    self._keep(trial, end)
        except KeyboardInterrupt:
            interrupted = True
        tried = self._tried()
        return SearchOutcome(tuple(tried.points), tried.best, today, self._study, interrupted)

    def _device(self) -> AbstractContextManager[None]:
        """Hold the device while one point is measured, so workers on one machine take turns."""
        return device_held([self._setup.spec], self._context.console.line)

    def _build_space(self, info: EngineInfo) -> Space:
        requests = [request for test in self._tests for request in test.workload.requests]
        prompt = max((len(request.prompt_token_ids) for request in requests), default=0)
        context = max(
            (len(request.prompt_token_ids) + request.output_tokens for request in requests),
            default=0,
        )
        self._demand = Demand(context, prompt)
        layers = 0
        if info.gpu is not None and info.gpu.gpus and not self._setup.perf.require_gpu:
            layers = info.gpu.total_layers
        return build_space(self._setup, self._demand, usable_cpus(), gpu_layers=layers)

    def _identity(self) -> dict[str, Any]:
        """Return the facts that must be equal for a study's earlier points to be reused."""
        return {
            "machine": self._facts.machine.key,
            "model": self._setup.model_identity,
            "build": installed_build() if self._setup.llm.kind.uses_llama_settings else None,
            "workload": [test.workload.hash for test in self._tests],
            "configuration": {
                key: value
                for key, value in self._setup.llm.resolved().items()
                if key not in ("model_path", "load_timeout", "generation_timeout", "idle_timeout")
            },
            "space": {key: list(values) for key, values in self._space.choices.items()},
            "objective": [
                [goal.test, goal.target_metric.name, goal.limit] for goal in self._objective.goals
            ],
            "bounds": [self._tune.max_memory, self._tune.max_kl],
            # The text that answers are scored on matters only if their divergence is bounded.
            "text": self._tune.max_kl and self._setup.loaded.config.quality.text,
        }

    def _say_start(self, budget: float) -> None:
        known = len(self._study.points())
        goes_on = f", going on after {count(known, 'point')}" if known else ""
        names = ", ".join(self._objective.metrics)
        self._context.console.line(
            f"searching {count(len(self._space.choices), 'setting')} for a better {names}, within "
            f"{format_duration(budget)} (study {self._study.name}{goes_on})"
        )

    def _least_seconds(self, today: FirstLook) -> float:
        """Estimate the seconds of one pair; with less time left, no point is started."""
        best = self._runners.looked_at(self._tried().best)
        look = best.look if best is not None else today
        loads = all(test.workload.load.is_load for test in self._tests)
        return 2 * (look.start_seconds + (_LOADS if loads else _REPLAYS) * look.seconds)

    def _keep(self, asked: StartedTrial, end: float) -> None:
        """Measure a point and store it in the study."""
        with self._device():
            began = time.monotonic()
            # Workers store a point before they release the device, so the best may be new by now.
            point = self._measured(asked, self._tried(), end)
            point = replace(point, seconds=time.monotonic() - began)
            self._study.finish(asked, point)
        self._context.console.line(_line(point))

    def _tried(self) -> TriedSettings:
        return TriedSettings(self._space, self._study.points(), objective=self._objective)

    def _measured(self, asked: StartedTrial, tried: TriedSettings, end: float) -> Point:
        changed, best = self._space.changed(asked.values), tried.best
        against = best.number if best is not None else 0
        point = Point(
            asked.number, asked.phase, changed, "failed", against=against, origin=asked.origin
        )
        if (other := tried.rejected_before(changed)) is not None:
            # Another worker found this out after the point was proposed.
            settings = shown(answer_settings(other.settings))
            reason = f"{settings}: rejected by tune.max_kl before (point {other.number})"
            return replace(point, outcome="rejected", reason=reason)
        try:
            leader, runner = self._runners.best_and_candidate(best, changed)
            outcome = self._racer.decide_by_looks(runner, leader)
            if outcome is not None:
                # The machine may have become slower or faster since the leader's look: repeat it.
                leader = self._runners.look_again(best)
                outcome = self._racer.decide_by_looks(runner, leader)
        except LookError as error:
            return replace(point, outcome=error.outcome, reason=error.reason)
        self._runners.keep(asked.number, runner)
        if outcome is None:
            outcome = self._racer.run(runner, leader, max(end - time.monotonic(), 1.0))
        point = replace(
            point,
            outcome=outcome.outcome,
            reason=outcome.reason,
            pairs=outcome.pairs,
            metrics=outcome.changes,
            took_over=outcome.took_over,
        )
        if outcome.effect is not None and outcome.outcome in ("measured", "lost"):
            before = best.score if best is not None and best.score is not None else 0.0
            point = replace(point, score=before + outcome.effect)
        point = replace(point, levels=self._levels(point, tried, runner.look))
        if point.took_over and self._quality is not None:
            try:
                why_not = self._quality(changed)
            except UncheckedAnswersError as error:
                return replace(
                    point, outcome="failed", reason=str(error), took_over=False, score=None
                )
            if why_not is not None:
                reason = f"{why_not}{_skipped(changed)}"
                return replace(
                    point, outcome="rejected", reason=reason, took_over=False, score=None
                )
        return point

    def _levels(self, point: Point, tried: TriedSettings, seen: FirstLook) -> tuple[Level, ...]:
        """Return the levels of a point that was measured against the best point so far."""
        own = tried.best.levels if tried.best is not None else levels_of_look(self._today)
        base = completed(point.against, own, (*tried.points, point))
        levels = changed_levels(base, point.metrics)
        return (*levels, Level(MEMORY, float(seen.memory))) if seen.memory else levels


def _skipped(changed: Settings) -> str:
    """Name the combinations that are skipped after settings were rejected for their answers."""
    cause = answer_settings(changed)
    return f"; other combinations with {shown(cause)} are skipped" if cause else ""


def _line(point: Point) -> str:
    """Describe a finished point in one line."""
    text = f"point {point.number} ({point.origin}): {shown(point.settings)}: "
    if point.outcome != "measured":
        return f"{text}{point.outcome}: {point.reason}"
    changes = ", ".join(
        f"{METRICS[change.metric].label} {change_words(METRICS[change.metric], change.change)}"
        for change in point.metrics
        if change.change is not None and change.metric in _SHOWN
    )
    return f"{text}{'the best so far' if point.took_over else 'no better'} ({changes})"
