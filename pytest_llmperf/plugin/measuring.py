"""The measure stage: holds the device, runs the rounds, shows how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.device_lock import DeviceLock
from pytest_llmperf.measure.arms import Arm
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Rounds
from pytest_llmperf.measure.samples import BASE, CANDIDATE, Measurement
from pytest_llmperf.plugin.console import Console
from pytest_llmperf.plugin.evidence import SessionGate
from pytest_llmperf.plugin.facts import MachineWatch, SessionFacts
from pytest_llmperf.plugin.settings import Against, Settings


class MeasureStage:
    """Measures plans on one machine, one at a time.

    Args:
        facts: what the machine's watch has to know.
        console: where progress is shown.
        in_logs: whether it is shown where the output is no terminal, too.
    """

    def __init__(self, facts: SessionFacts, console: Console, *, in_logs: bool = True) -> None:
        self._facts = facts
        self._console = console
        self._in_logs = in_logs

    def measure(self, plan: Plan, arms: Sequence[Arm], gate: SessionGate) -> Measurement:
        """Replay the plan's workloads until the gate has decided every test, or a budget ends.

        Raises:
            DeviceBusyError: another session does not free the device.
        """
        lock = DeviceLock(notify=self._console.line)
        lock.acquire()
        try:
            with self._console.progress(plan, in_logs=self._in_logs) as tell:
                watch = partial(MachineWatch, self._facts)
                return Rounds(plan, arms, watch, tell, gate.undecided).run()
        finally:
            lock.release()


def arms_of(settings: Settings, against: Against | None) -> list[Arm]:
    """Return the session's own arm and, where there is something to compare with, the base."""
    arms = [Arm(CANDIDATE, "candidate", partial(EngineClient.start, settings.spec))]
    if against is not None:
        start = partial(EngineClient.start, against.spec)
        arms.append(Arm(BASE, f"base ({against.name})", start))
    return arms
