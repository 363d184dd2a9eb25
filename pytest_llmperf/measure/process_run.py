"""The run of a test's workload in one engine process: its replays, and what they measured."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.client import EngineClient, drain
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.machine.fitness import FitnessFinding, with_severities, worst_first
from pytest_llmperf.machine.gpu.summary import TelemetrySummary
from pytest_llmperf.machine.processes import cpu_seconds, process_tree
from pytest_llmperf.measure.instrumented import instrument_findings
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.process_sample import DECODE_METRICS
from pytest_llmperf.measure.samples import BASE, ProcessSample, TurnSamples
from pytest_llmperf.measure.turns import PROMPT_METRICS, Part, Turns, decode_steps
from pytest_llmperf.measure.warmup import is_warm
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.metrics import compute_all
from pytest_llmperf.timeline import Timeline

#: CPU seconds that a process may use during the other's turns: in all, and in each, because after
#: a computation threads spin for some milliseconds (10 of llama.cpp's), waiting for the next one.
#: Beyond that a share of the cores.
_BUSY_S, _SPIN_S, _BUSY_SHARE = 0.1, 0.02, 0.05


class Watch(Protocol):
    """A watch over the machine while one test is replayed in one process.

    Besides the generations it measures values by metric name, in base units; a metric that
    can't be measured is left out.
    """

    def measured(self, timelines: Sequence[Timeline]) -> Mapping[str, float]:
        """Return the watch's metrics of one counted iteration, right after its end."""

    def turned(self, timelines: Sequence[Timeline]) -> None:
        """Take note of a replay in turns of tokens, right after its end."""

    def whole(self, iterations: Sequence[Sequence[Timeline]]) -> Mapping[str, float]:
        """Return the watch's metrics of all counted iterations together: one value a process."""

    def sample(self) -> FitnessFinding | None:
        """Take a sample between two replays.

        Return what voids the process, if that is already certain and going on would only
        cost time; None otherwise.
        """

    def undefined(self) -> Mapping[str, str]:
        """Return by metric name why a metric of the watch has no value."""

    def telemetry(self) -> TelemetrySummary | None:
        """Summarise the GPUs while the engine decoded; None if none is watched."""

    def stop(self) -> Sequence[FitnessFinding]:
        """End the watch and return its findings; may be called again."""


@dataclass(frozen=True)
class Step:
    """Progress of the measure stage, reported before each replay.

    ``process`` and ``pair`` count from 1; ``iteration`` is None while warming up.
    ``processes`` is the planned minimum; ``side`` is CANDIDATE or BASE, and ``pair`` is None
    without a comparison. ``open`` says what is undecided of the test; ``left`` is how many
    seconds all tests are expected to take, or None where unknown.
    """

    process: int
    processes: int
    nodeid: str
    iteration: int | None
    iterations: int
    side: str
    pair: int | None
    open: str = ""
    left: float | None = None


@dataclass(frozen=True)
class ReplaySlot:
    """The process of the session that a replay runs in, counted from 0."""

    process: int
    side: str
    pair: int | None


@dataclass(frozen=True)
class ReplayProcess:
    """One engine process that replays a test, and its workload."""

    client: EngineClient
    slot: ReplaySlot
    workload: Workload


class ReplayError(Exception):
    """An engine could not start, or refused or failed a request.

    Attributes:
        side: the engine's side.
        error: the engine's error.
    """

    def __init__(self, side: str, error: EngineError) -> None:
        super().__init__(str(error))
        self.side = side
        self.error = error


@contextmanager
def others_wait(run: ProcessRun, runs: Sequence[ProcessRun]) -> Iterator[None]:
    """Check that the other processes are idle during this one's turn."""
    waiting = [(one, one.cpu_seconds()) for one in runs if one is not run]
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    for one, before in waiting:
        one.waited(seconds, one.cpu_seconds() - before)


class ProcessRun:
    """Replay of one test in one engine process.

    Attributes:
        watch: over the machine meanwhile.
        void: why the sample must not be judged, as soon as that is known, or None.
        generating_seconds: time spent inside generation so far.
    """

    def __init__(
        self,
        plan: Plan,
        nodeid: str,
        process: ReplayProcess,
        watch: Watch,
        turns: Turns | None,
    ) -> None:
        self._plan = plan
        self._nodeid = nodeid
        self._process = process
        self.watch = watch
        self._turns = turns
        self.void: str | None = None
        self._disturbed = ""
        self.generating_seconds = 0.0
        self._waiting_seconds = self._busy_seconds = 0.0
        self._warmup: list[dict[str, float]] = []
        self._counted: list[list[Timeline]] = []
        self._rows: list[dict[str, float]] = []
        self._undefined: dict[str, str] = {}
        self._found: dict[str, FitnessFinding] = {}
        self._decode_turns: list[float] = []
        self._first_tokens: list[float] = []
        self._turn_rows: list[dict[str, float]] = []

    @property
    def is_warm(self) -> bool:
        """Whether the process is warm, or has had its maximum of warm-up."""
        return is_warm([row["end_to_end"] for row in self._warmup], self._plan.perf.warmup_max)

    def least(self, metric: str) -> float:
        """Return the least value of the replays so far, which disturbances have spared; or 0."""
        rows = (*self._warmup, *self._rows)
        return min((row[metric] for row in rows if metric in row), default=0.0)

    @property
    def workload(self) -> Workload:
        """What is replayed."""
        return self._process.workload

    def warm_up(self) -> None:
        """Replay once without counting it."""
        timelines = drain(self._replay())
        self._warmup.append(compute_all(timelines))
        self._look()

    def count(self) -> None:
        """Replay once and count it."""
        timelines = drain(self._replay())
        self._counted.append(timelines)
        values = compute_all(timelines, self._undefined)
        self._rows.append({**values, **self.watch.measured(timelines)})
        self._look()

    def restores_prompt(self) -> bool:
        """Try whether the engine restores the state of the prompt of the last replay.

        The workload is a single request. Not every model can go back to the end of its prompt.
        """
        if not self._process.client.kind.restores_prompts:
            return False
        (recorded,) = self.workload.requests
        kept = recorded.with_kept_prompt().until_first_token()
        try:
            return kept.unlike(self._process.client.request(kept.replayed())) is None
        except EngineError as error:
            raise ReplayError(self._process.slot.side, error) from error

    def in_turns(self, tokens: int, part: Part) -> Generator[int, None, None]:
        """Replay a part once, in turns of so many tokens; yield the progress after each turn."""
        timelines = yield from self._replay(tokens, part)
        if self.void:
            return
        row = compute_all(timelines)
        names = {"prompt": PROMPT_METRICS, "decode": DECODE_METRICS}.get(part, row.keys())
        self._turn_rows.append({name: row[name] for name in row if name in names})
        self.watch.turned(timelines)
        self._decode_turns += (s for timeline in timelines for s in timeline.decode_turns())
        if part != "decode":
            own = (timeline.own() for timeline in timelines)
            self._first_tokens.append(sum(each.token_times[0] - each.t_start for each in own))
        self._look()

    def _hits_both(self, finding: FitnessFinding) -> bool:
        return self._turns == "tokens" and CHECKS[finding.name].hits_both

    def _look(self) -> None:
        finding = self.watch.sample()
        if finding is not None:
            self._note(finding)

    def _note(self, finding: FitnessFinding) -> None:
        """Note what an invalid finding of the machine means for the sample."""
        if self._hits_both(finding):
            self._disturbed = self._disturbed or str(finding)
        else:
            self.void = self.void or str(finding)

    @cached_property
    def _pids(self) -> list[int]:
        """The process and its children, found once: a short turn leaves no time to look again."""
        return process_tree(self._process.client.pid)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far."""
        return sum(map(cpu_seconds, self._pids))

    def waited(self, seconds: float, used: float) -> None:
        """Check the CPU time that the process used during the other's turn.

        Raises:
            ReplayError: it keeps computing on the other's cores.
        """
        self._waiting_seconds += seconds
        # Of several threads each spins.
        self._busy_seconds += max(used - _SPIN_S * (usable_cpus() - 1), 0.0)
        cores = self._busy_seconds / self._waiting_seconds
        if self._busy_seconds > _BUSY_S and cores > _BUSY_SHARE * usable_cpus():
            error = EngineError(
                f"it kept {cores:.2f} cores busy while the other process had its turn"
            )
            raise ReplayError(self._process.slot.side, error)

    def end(self) -> ProcessSample:
        """End the watch and return the sample."""
        rows, slot = self._rows, self._process.slot
        if rows:
            rows[0].update(self.watch.whole(self._counted))
        found = worst_first([*self._found.values(), *self.watch.stop()])
        for finding in found:
            if finding.severity == "invalid":
                self._note(finding)
        findings = tuple(_noted(one) if self._hits_both(one) else one for one in found)
        return ProcessSample(
            process=slot.process,
            iterations=tuple(rows),
            warmup=tuple(self._warmup),
            findings=findings,
            void=self.void,
            side=slot.side,
            pair=slot.pair,
            pooled=_pooled([timeline for timelines in self._counted for timeline in timelines]),
            undefined={**self._undefined, **self.watch.undefined()},
            telemetry=self.watch.telemetry(),
            beside=self._turns == "iterations",
            turns=self._turn_samples() if self._turn_rows else None,
            disturbed=self._disturbed,
        )

    def _turn_samples(self) -> TurnSamples:
        names = dict.fromkeys(name for row in self._turn_rows for name in row)
        return TurnSamples(
            decode=tuple(self._decode_turns),
            steps=decode_steps(self.workload),
            first_tokens=tuple(self._first_tokens),
            values={
                name: tuple(row[name] for row in self._turn_rows if name in row) for name in names
            },
        )

    def step(self, iteration: int | None) -> Step:
        """Return the measure stage's progress at the next replay."""
        plan, slot = self._plan, self._process.slot
        return Step(
            process=slot.process + 1,
            processes=plan.processes * (2 if plan.paired else 1),
            nodeid=self._nodeid,
            iteration=iteration,
            iterations=plan.perf.iterations,
            side=slot.side,
            pair=None if slot.pair is None else slot.pair + 1,
        )

    def _replay(
        self, tokens: int | None = None, part: Part = "whole"
    ) -> Generator[int, None, list[Timeline]]:
        try:
            return (yield from self._requests(tokens, part))
        except EngineError as error:
            raise ReplayError(self._process.slot.side, error) from error

    def _requests(self, tokens: int | None, part: Part) -> Generator[int, None, list[Timeline]]:
        """Replay a part of the workload once, from an empty cache; return its timelines.

        Decode alone goes on from the prompt that the replay before left in the cache.

        In turns of ``tokens``, the progress is yielded after each turn: it grows with each
        request, and with the first token of each.
        Findings about different work are kept by check, even if they void nothing.
        """
        client, slot = self._process.client, self._process.slot
        if part != "decode":
            client.reset()
        timelines: list[Timeline] = []
        for number, whole in enumerate(self.workload.requests):
            recorded = _part_of(whole, part)
            if tokens is None:
                generation = client.request(recorded.replayed())
            else:
                if number:
                    yield 2 * number
                turns = client.in_turns(recorded.replayed(), tokens)
                generation = yield from _progress(turns, 2 * number)
            timeline = generation.timeline
            timelines.append(timeline)
            if timeline.token_times:
                own = timeline.own()
                self.generating_seconds += own.token_times[-1] - own.t_start
            if slot.side == BASE and (other := recorded.other_work(generation)):
                # The machine is not the cause, so repeating would not help.
                raise EngineError(
                    f"other work than was recorded, so there is nothing to compare: {other.text}"
                )
            unlike = recorded.unlike(generation)
            found = [*instrument_findings(generation), *([unlike] if unlike else [])]
            for one in with_severities(found, self._plan.perf.fitness):
                self._found[one.name] = one
                # Without a token nothing can be timed, at any severity.
                if one.severity == "invalid" or not timeline.token_times:
                    self.void = self.void or str(one)
            if self.void:
                break
        return timelines


def _part_of(recorded: RecordedRequest, part: Part) -> RecordedRequest:
    if part == "prompt":
        return recorded.until_first_token()
    return recorded.with_kept_prompt() if part == "decode" else recorded


def _noted(finding: FitnessFinding) -> FitnessFinding:
    """Return a finding about what hit both processes of a pair alike."""
    text = f"{finding.text}; both sides of each pair took turns within it"
    return replace(finding, severity="note", text=text)


def _progress(
    turns: Generator[int, None, Generation], before: int
) -> Generator[int, None, Generation]:
    """Turn the tokens after each turn into progress: one more from the first token on."""
    while True:
        try:
            tokens = next(turns)
        except StopIteration as end:
            generation: Generation = end.value
            return generation
        yield before + (tokens > 0)


def _pooled(timelines: Sequence[Timeline]) -> dict[str, tuple[float, ...]]:
    return {
        # Tokens that arrived together have no gaps.
        "inter_token": tuple(gap for timeline in timelines for gap in timeline.gaps() if gap),
        "first_token": tuple(t.token_times[0] - t.t_start for t in timelines if t.token_times),
    }
