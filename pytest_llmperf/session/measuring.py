"""The measure stage: makes a plan, locks the device, runs the rounds, shows progress."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.device_lock import DeviceLock
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.machine.free_memory import has_room_beside
from pytest_llmperf.machine.gpu.metrics import GPU_METRICS
from pytest_llmperf.machine.gpu.room import cards_have_room_beside
from pytest_llmperf.measure.order import processes_per_round
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.replication import FRESH_PROCESS, ReplicationUnit
from pytest_llmperf.measure.rounds import Keep, Rounds, Undecided
from pytest_llmperf.measure.samples import Measurement, ProcessSample
from pytest_llmperf.measure.sides import Side
from pytest_llmperf.measure.turns import Turns, common_turns
from pytest_llmperf.session.context import Console
from pytest_llmperf.session.machine_watch import FitWait, ProcessWatch, WatchSettings
from pytest_llmperf.session.recorded import RecordedTest

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import PerfConfig
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.engine_kinds import EngineKind


class MeasureStage:
    """Measures plans on one machine, one at a time.

    Args:
        watch: settings for watching the machine during engine processes.
        console: where progress is shown.
        wait: waits for a busy machine and counts the session's waiting time.
        specs: how the engines of both sides are started; None if the caller already holds the
            device.
        in_logs: whether to show progress even if the output is not a terminal.

    Attributes:
        interrupted: the measurement so far, if the stage was interrupted; else None.
    """

    def __init__(
        self,
        watch: WatchSettings,
        console: Console,
        wait: FitWait,
        specs: Sequence[LaunchSpec] | None,
        *,
        in_logs: bool = True,
    ) -> None:
        self._watch = watch
        self._console = console
        self._wait = wait
        self._specs = specs
        self._in_logs = in_logs
        self.interrupted: Measurement | None = None

    def measure(
        self,
        plan: Plan,
        sides: Sequence[Side],
        undecided: Undecided | None = None,
        earlier: Mapping[str, Sequence[ProcessSample]] | None = None,
        keep: Keep | None = None,
        known_turns: Turns | None = None,
    ) -> Measurement:
        """Replay the plan's workloads until every test is decided, or a budget ends.

        ``undecided``, ``earlier``, ``keep`` and ``known_turns``: see ``Rounds``.

        Raises:
            DeviceBusyError: another session does not free the device.
        """
        device = (
            nullcontext() if self._specs is None else device_held(self._specs, self._console.line)
        )
        with device, self._console.progress(plan, in_logs=self._in_logs) as on_step:
            watch = ProcessWatch(self._watch, self._wait)
            rounds = Rounds(
                plan,
                sides,
                watch,
                on_step,
                undecided,
                earlier,
                keep,
                watch.before,
                partial(possible_turns, self._watch, plan.perf.turns),
                known_turns,
            )
            try:
                measurement = rounds.run()
            except KeyboardInterrupt:
                self.interrupted = rounds.measured()
                raise
        if measurement.why_not_side_by_side:
            self._console.line(
                "note: a pair failed side by side, so the processes of later pairs ran one after "
                f"the other (perf.turns): {measurement.why_not_side_by_side}"
            )
        return measurement


@contextmanager
def device_held(specs: Sequence[LaunchSpec], notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the device that these engines use; ``notify`` shows why it waits.

    Raises:
        DeviceBusyError: another session does not free the device.
    """
    lock = DeviceLock(notify=notify, cards=partial(cards_of, specs))
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def make_plan(
    tests: Sequence[RecordedTest],
    perf: PerfConfig,
    start_seconds: float,
    *,
    paired: bool = False,
    turns: Turns | None = None,
    specs: Mapping[str, LaunchSpec] | None = None,
    unit: ReplicationUnit = FRESH_PROCESS,
) -> Plan:
    """Return the plan of a measure stage, with a random seed unless one is configured.

    Args:
        tests: the tests to measure.
        perf: the settings.
        start_seconds: how long an engine process takes to start.
        paired: whether two sides are compared.
        turns: how the processes of a pair are expected to take turns.
        specs: the tests' engine settings, by node id, where they differ.
        unit: what one sample comes from, such as a process.
    """
    specs = specs or {}
    budgets = {test.nodeid: test.budget or perf.test_budget for test in tests}
    return Plan(
        workloads={test.nodeid: test.workload for test in tests},
        recorded_seconds={test.nodeid: test.seconds for test in tests},
        start_seconds=start_seconds,
        perf=perf,
        seed=random.SystemRandom().getrandbits(32) if perf.seed is None else perf.seed,
        budget=perf.budget,
        paired=paired,
        turns=turns,
        unit=unit,
        processes_per_round=processes_per_round(specs.keys(), specs),
        test_budgets={nodeid: budget for nodeid, budget in budgets.items() if budget is not None},
        # A percentile is taken over all gaps of whole iterations; turns of tokens leave only few.
        whole_iterations_only=_gating(tests, "percentile"),
        # Replays of one process are alike, so more of them are no more evidence of a share.
        without_repeats=_gating(tests, "percentile", "share"),
        # A GPU's counters can't tell two processes apart.
        run_alone=frozenset(
            test.nodeid
            for test in tests
            if any(check.gated and check.metric.name in GPU_METRICS for check in test.checks)
        ),
    )


def _gating(tests: Sequence[RecordedTest], *kinds: str) -> frozenset[str]:
    """Return the tests that gate a metric of one of these kinds."""
    return frozenset(
        test.nodeid
        for test in tests
        if any(check.gated and check.metric.kind in kinds for check in test.checks)
    )


def pair_notes(plan: Plan) -> list[str]:
    """Return a note if no slowdown can be called, because the plan has too few pairs."""
    from pytest_llmperf.stats.paired import min_pairs_to_call

    pairs, enough = plan.max_processes, min_pairs_to_call()
    if not plan.paired or pairs >= enough:
        return []
    return [
        f"perf.max_pairs is {pairs}: at least {enough} pairs are needed to report a slowdown, so "
        "this session can't report one"
    ]


def quick_perf(
    processes: int,
    max_processes: int,
    *,
    iterations: int,
    warmup_max: int,
    turns: str,
    fitness: Mapping[str, str],
) -> PerfConfig:
    """Return settings for a comparison that is an estimate, not a verdict.

    They are not validated: such a comparison may replay a workload only once, which tests may not.
    """
    from pytest_llmperf.config.schema import PerfConfig

    return PerfConfig().model_copy(
        update={
            "processes": processes,
            "max_processes": max_processes,
            "max_pairs": max_processes,
            "iterations": iterations,
            "warmup_max": warmup_max,
            "fitness": fitness,
            "turns": turns,
        }
    )


def possible_turns(settings: WatchSettings, asked: str, client: EngineClient) -> Turns | None:
    """Return how this process could take turns with one beside it; None if it must run alone.

    A second process needs room in the machine's memory and in that of every GPU this one uses.
    ``asked``: ``perf.turns``.
    """
    turns = _allowed_turns(asked, client.kind)
    if turns is None or not has_room_beside(client.processes):
        return None
    fits = cards_have_room_beside(settings.telemetry, client.processes, client.info.gpu)
    return turns if fits else None


def expected_turns(
    asked: str, specs: Sequence[LaunchSpec], infos: Iterable[EngineInfo]
) -> Turns | None:
    """Return how pairs of these engines will take turns, if there is memory for both.

    None if an engine has layers on a GPU, whose free memory is not known yet.

    Args:
        asked: ``perf.turns``.
        specs: how both sides are started.
        infos: what the candidate loaded for each test; the base is assumed to have its layers in
            the same place.
    """
    if any(info.gpu is not None and info.gpu.layers_on_gpu > 0 for info in infos):
        return None
    return common_turns([_allowed_turns(asked, spec.kind) for spec in specs])


def _allowed_turns(asked: str, kind: EngineKind) -> Turns | None:
    """Return how a process of this engine may take turns with another; None if not at all.

    An application may use a resource that exists only once, such as a port or a server, so
    it needs the configuration's permission (``asked``: ``perf.turns``).
    """
    if asked == "processes" or (asked == "auto" and not kind.side_by_side):
        return None
    return "tokens" if kind.pauses and asked in ("auto", "tokens") else "iterations"


def cards_of(specs: Sequence[LaunchSpec]) -> Collection[str] | None:
    """Return the names of all GPUs that these engines may compute on; None if that is unknown."""
    from pytest_llmperf.machine.gpu.claims import claimed_cards

    names: set[str] = set()
    for spec in specs:
        # Another environment may have another build of llama.cpp, such as one for the CPU.
        if spec.python != sys.executable:
            return None
        cards = claimed_cards(spec.kind.backend_name, spec.config, {**os.environ, **spec.env})
        if cards is None:
            return None
        names.update(cards)
    return names
