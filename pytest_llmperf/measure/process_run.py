"""One test's run in one engine process: its replays and their measurements."""

from __future__ import annotations

from collections.abc import Generator, MutableMapping, Sequence
from dataclasses import replace

from pytest_llmperf.engine.client import drain
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.machine.fitness import FitnessFinding, with_severities, worst_first
from pytest_llmperf.measure.cache_use import cache_share, unknown_use
from pytest_llmperf.measure.idle_turns import IdleTurns
from pytest_llmperf.measure.instrumented import instrument_findings
from pytest_llmperf.measure.load_metrics import LoadFigures
from pytest_llmperf.measure.load_pattern import load_seed
from pytest_llmperf.measure.load_run import send_load, warm_up_load
from pytest_llmperf.measure.load_validity import restart_finding
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.process_sample import DECODE_METRICS
from pytest_llmperf.measure.replay_process import ReplayError, ReplayProcess, Step
from pytest_llmperf.measure.samples import BASE, ProcessSample, TurnSamples
from pytest_llmperf.measure.server_use import ServerUse, UseCounters
from pytest_llmperf.measure.turns import PROMPT_METRICS, Part, Turns, decode_steps
from pytest_llmperf.measure.warmup import is_warm
from pytest_llmperf.measure.watch import Watch
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.metrics import compute_all
from pytest_llmperf.run import Run
from pytest_llmperf.timeline import Timeline


class ProcessRun:
    """Replay of one test in one engine process.

    Attributes:
        watch: the watch over the machine during the run.
        void: why the sample must not be judged, once that is known; or None.
        generating_seconds: time spent inside generation so far.
    """

    def __init__(
        self,
        plan: Plan,
        nodeid: str,
        process: ReplayProcess,
        watch: Watch,
        turns: Turns | None,
        generated: MutableMapping[str, float],
    ) -> None:
        self._plan = plan
        self._generated = generated
        self._nodeid = nodeid
        self._process = process
        self.watch = watch
        self._turns = turns
        self.void: str | None = None
        self._disturbed = ""
        self.generating_seconds = 0.0
        self._idle = IdleTurns(process.client)
        self._warmup: list[dict[str, float]] = []
        self._counted: list[Run] = []
        self._rows: list[dict[str, float]] = []
        self._undefined: dict[str, str] = {}
        self._found: dict[str, FitnessFinding] = {}
        self._decode_turns: list[float] = []
        self._first_tokens: list[float] = []
        self._turn_rows: list[dict[str, float]] = []
        self._partial: dict[str, list[float]] = {}
        self._overloaded = ""
        self._load: LoadFigures | None = None
        self._counters = UseCounters(process.client, beside=turns is not None)

    @property
    def is_warm(self) -> bool:
        """Whether the process is warm, or has had its maximum of warm-up."""
        if self.workload.load.is_load:
            return bool(self._warmup)
        return is_warm([row["end_to_end"] for row in self._warmup], self._plan.perf.warmup_max)

    def smallest(self, metric: str) -> float:
        """Return the smallest value so far, that of the least disturbed replay; 0 without any."""
        rows = (*self._warmup, *self._rows)
        return min((row[metric] for row in rows if metric in row), default=0.0)

    @property
    def workload(self) -> Workload:
        """The workload that is replayed."""
        return self._process.workload

    def warm_up(self) -> None:
        """Replay once, uncounted, to warm up; a load is replayed only in part."""
        run = self._warm_up_load() if self.workload.load.is_load else drain(self._replay())
        self._warmup.append(compute_all(run))
        self._look()

    def count(self) -> None:
        """Replay once and count it."""
        if self.workload.load.is_load:
            run = self._send_load()
        else:
            self._counters.begin()
            run = drain(self._replay())
        self._counted.append(run)
        values = compute_all(run, self._undefined)
        self._rows.append({**values, **self.watch.iteration_metrics(run)})
        self._look()

    def restores_prompt(self) -> bool:
        """Try out whether the engine can restore the prompt's state from the last replay.

        The workload must be a single request. Not every model can return to the end of its prompt.
        """
        if not self._process.client.kind.restores_prompts:
            return False
        (recorded,) = self.workload.requests
        kept = recorded.with_kept_prompt().until_first_token()
        try:
            return kept.why_not_same_work(self._process.client.request(kept.replayed())) is None
        except EngineError as error:
            raise ReplayError(self._process.slot.side, error) from error

    def in_turns(self, tokens: int, part: Part) -> Generator[int, None, None]:
        """Replay a part once, in turns of ``tokens`` tokens; yield the progress after each turn."""
        run = yield from self._replay(tokens, part)
        if self.void:
            return
        row = compute_all(run)
        names = {"prompt": PROMPT_METRICS, "decode": DECODE_METRICS}.get(part, row.keys())
        self._turn_rows.append({name: row[name] for name in row if name in names})
        if part != "whole":
            self._partial.setdefault(part, []).append(row["end_to_end"])
        self.watch.record_turn(run)
        self._decode_turns += (s for timeline in run.timelines for s in timeline.decode_turns())
        if part != "decode":
            own = run.without_pauses().timelines
            self._first_tokens.append(sum(t.token_times[0] - t.t_start for t in own))
        self._look()

    def _warm_up_load(self) -> Run:
        seed = load_seed(self._plan.seed, self._place, len(self._warmup))
        try:
            run = warm_up_load(self._process.client, self.workload, seed)
        except EngineError as error:
            raise ReplayError(self._process.slot.side, error) from error
        self.generating_seconds += run.seconds
        return run

    def _send_load(self) -> Run:
        """Send the load once; note the findings that make it void."""
        seed = load_seed(self._plan.seed, self._place, len(self._counted))
        try:
            run, self._load, findings = send_load(
                self._process.client, self.workload, seed, self._generated
            )
        except EngineError as error:
            raise ReplayError(self._process.slot.side, error) from error
        self.generating_seconds += run.seconds
        for finding in with_severities(findings, self._plan.perf.fitness):
            self._found[finding.name] = finding
            if finding.severity == "invalid":
                self._note(finding)
        if not run.timelines and not self.void:
            # Without an answer there is nothing to time, whatever the severity.
            self.void = "no request was answered"
        return run

    @property
    def _place(self) -> int:
        """Number of the pair, the same for both sides; without pairs, of the process."""
        slot = self._process.slot
        return slot.process if slot.pair is None else slot.pair

    def _hits_both(self, finding: FitnessFinding) -> bool:
        return self._turns == "tokens" and CHECKS[finding.name].hits_both

    def _look(self) -> None:
        finding = self.watch.sample()
        if finding is not None:
            self._note(finding)

    def _note(self, finding: FitnessFinding) -> None:
        """Mark the sample as void, disturbed or overloaded, as an invalid finding requires."""
        if CHECKS[finding.name].needs_both:
            self._overloaded = str(finding)
        elif self._hits_both(finding):
            self._disturbed = self._disturbed or str(finding)
        else:
            self.void = self.void or str(finding)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far."""
        return self._idle.cpu_seconds()

    def check_idle(self, seconds: float, used: float) -> None:
        """Check the CPU time (``used``) of the process during the other process's turn.

        Raises:
            ReplayError: the process keeps computing on the other's cores.
        """
        try:
            self._idle.check_idle(seconds, used)
        except EngineError as error:
            raise ReplayError(self._process.slot.side, error) from error

    def end(self) -> ProcessSample:
        """End the watch and return the sample."""
        rows, slot = self._rows, self._process.slot
        if rows:
            rows[0].update(self.watch.overall_metrics(self._counted))
        watched = self.watch.stop()
        use = self._counters.use(self._counted) if self._load is None else self._load.use
        share = cache_share(
            ((t.prompt_tokens_cached, t.prompt_tokens) for run in self._counted for t in run),
            () if use is None else use.servers.values(),
        )
        server_findings = [] if self._load is not None else self._server_findings(use, share)
        ranked = worst_first([*self._found.values(), *server_findings, *watched])
        for finding in ranked:
            if finding.severity == "invalid":
                self._note(finding)
        findings = tuple(_noted(f) if self._hits_both(f) else f for f in ranked)
        return ProcessSample(
            process=slot.process,
            iterations=tuple(rows),
            warmup=tuple(self._warmup),
            findings=findings,
            void=self.void,
            side=slot.side,
            pair=slot.pair,
            pooled=_pooled(self._counted),
            undefined={**self._undefined, **self.watch.missing_reasons()},
            telemetry=self.watch.telemetry(),
            in_iteration_turns=self._turns == "iterations",
            turns=self._turn_samples() if self._turn_rows else None,
            cpu_mhz=self.watch.cpu_mhz(),
            disturbed=self._disturbed,
            overloaded=self._overloaded,
            load=self._load,
            use=use,
            cache_share=share,
            gap_counts=tuple(
                tuple(len(_gaps(timeline)) for timeline in timelines) for timelines in self._counted
            ),
        )

    def _server_findings(
        self, use: ServerUse | None, share: float | None
    ) -> Sequence[FitnessFinding]:
        """Return findings about the servers of requests that are sent one at a time.

        ``share``: share of the prompt tokens that came from a cache.
        """
        findings: list[FitnessFinding] = []
        kind = self._process.client.kind
        hides = any(timeline.cached_share_unknown for run in self._counted for timeline in run)
        if share is None and hides and not kind.resets:
            findings.append(unknown_use("note", metrics_asked=self._counters.are_read))
        if use is not None and not kind.restarts:
            restart = restart_finding(use.servers, self._generated)
            findings += [restart] if restart else []
        return with_severities(findings, self._plan.perf.fitness)

    def _turn_samples(self) -> TurnSamples:
        names = dict.fromkeys(name for row in self._turn_rows for name in row)
        return TurnSamples(
            decode=tuple(self._decode_turns),
            steps=decode_steps(self.workload),
            first_tokens=tuple(self._first_tokens),
            values={
                name: tuple(row[name] for row in self._turn_rows if name in row) for name in names
            },
            partial={part: tuple(seconds) for part, seconds in self._partial.items()},
        )

    def step(self, iteration: int | None, iterations: int | None = None) -> Step:
        """Return the measure stage's progress at the next replay.

        ``iterations``: total number of iterations, if known; None: as planned.
        """
        plan, slot = self._plan, self._process.slot
        return Step(
            process=slot.process + 1,
            processes=plan.processes * (2 if plan.paired else 1),
            nodeid=self._nodeid,
            iteration=iteration,
            iterations=iterations or plan.perf.iterations,
            side=slot.side,
            pair=None if slot.pair is None else slot.pair + 1,
            unit=plan.unit.name,
        )

    def _replay(self, tokens: int | None = None, part: Part = "whole") -> Generator[int, None, Run]:
        try:
            return (yield from self._requests(tokens, part))
        except EngineError as error:
            raise ReplayError(self._process.slot.side, error) from error

    def _requests(self, tokens: int | None, part: Part) -> Generator[int, None, Run]:
        """Replay a part of the workload once, from an empty cache; return the run.

        Decode alone continues from the prompt that the previous replay left in the cache.

        In turns of ``tokens`` tokens, yield the progress after each turn; it grows with each
        request and with the first token of each request.
        """
        client = self._process.client

        def send(number: int, whole: RecordedRequest) -> Generator[int, None, Timeline]:
            recorded = _part_of(whole, part)
            if tokens is None:
                generation = client.request(recorded.replayed())
            else:
                if number:
                    yield 2 * number
                turns = client.in_turns(recorded.replayed(), tokens)
                generation = yield from _progress(turns, 2 * number)
            self._check_work(recorded, generation)
            return generation.timeline

        if part != "decode":
            client.reset()
        workload = self.workload
        return (yield from workload.load.drive(workload.requests, send, lambda: bool(self.void)))

    def _check_work(self, recorded: RecordedRequest, generation: Generation) -> None:
        """Check that a generation did the recorded work.

        Findings are kept by name of their check, even if they do not void the sample.
        """
        timeline = generation.timeline
        if timeline.token_times:
            own = timeline.without_pauses()
            self.generating_seconds += own.token_times[-1] - own.t_start
        if self._process.slot.side == BASE and (other := recorded.work_difference(generation)):
            # The machine did not cause this, so repeating would not help.
            raise EngineError(
                "the base did not repeat the recorded work, so it can't be compared: " + other.text
            )
        why_not = recorded.why_not_same_work(generation)
        findings = [*instrument_findings(generation), *([why_not] if why_not else [])]
        for finding in with_severities(findings, self._plan.perf.fitness):
            self._found[finding.name] = finding
            # Without a token there is nothing to time, whatever the severity.
            if finding.severity == "invalid" or not timeline.token_times:
                self.void = self.void or str(finding)


def _part_of(recorded: RecordedRequest, part: Part) -> RecordedRequest:
    if part == "prompt":
        return recorded.until_first_token()
    return recorded.with_kept_prompt() if part == "decode" else recorded


def _noted(finding: FitnessFinding) -> FitnessFinding:
    """Return a finding that hit both processes of a pair alike, as a note."""
    text = f"{finding.text}; this affected both sides alike, because they took turns"
    return replace(finding, severity="note", text=text)


def _progress(
    turns: Generator[int, None, Generation], before: int
) -> Generator[int, None, Generation]:
    """Yield the progress after each turn: ``before``, plus 1 from the first token on."""
    while True:
        try:
            tokens = next(turns)
        except StopIteration as end:
            generation: Generation = end.value
            return generation
        yield before + (tokens > 0)


def _pooled(runs: Sequence[Run]) -> dict[str, tuple[float, ...]]:
    timelines = [timeline for run in runs for timeline in run.timelines]
    started = [t for t in timelines if t.token_times]
    pooled = {
        "inter_token": tuple(gap for timeline in timelines for gap in _gaps(timeline)),
        "first_token": tuple(t.token_times[0] - t.t_start for t in started),
    }
    if any(run.sent is not None for run in runs):
        pooled["request_latency"] = tuple(t.token_times[-1] - t.t_start for t in started)
    return pooled


def _gaps(timeline: Timeline) -> list[float]:
    # Tokens that arrived together have no gap between them.
    return [gap for gap in timeline.gaps() if gap]
