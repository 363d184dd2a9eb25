"""One trial: the recorded tests, or some of them, measured and judged against one thing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf import __version__
from pytest_llmperf.config.embedded import cache_dir
from pytest_llmperf.measure.kept_pairs import KeptPairs
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Keep
from pytest_llmperf.measure.samples import Measurement, ProcessSample
from pytest_llmperf.plugin.against import Against, arms_of
from pytest_llmperf.plugin.console import Console
from pytest_llmperf.plugin.evidence import SessionGate
from pytest_llmperf.plugin.facts import SessionFacts
from pytest_llmperf.plugin.fitness import fit_wait
from pytest_llmperf.plugin.measuring import MeasureStage
from pytest_llmperf.plugin.planning import make_plan
from pytest_llmperf.plugin.recording import Recording
from pytest_llmperf.plugin.settings import Settings
from pytest_llmperf.plugin.unchanged import own_files
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.repository.state import ignored, state_of

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import PerfConfig


@dataclass(frozen=True)
class Trial:
    """What was measured, and the gate that judges it.

    Attributes:
        held: the tests.
        plan: of the measure stage.
        gate: judges the measurement.
        measurement: the samples.
        against: the base arm; None where stored sessions judge.
    """

    held: Sequence[Recording]
    plan: Plan
    gate: SessionGate
    measurement: Measurement
    against: Against | None


class Trials:
    """Runs the trials of one session.

    Args:
        config: pytest's.
        settings: the session's own arm.
        facts: machine, model and baselines.
        console: where plan and progress are shown.
        start_seconds: how long an engine process takes to start.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        facts: SessionFacts,
        console: Console,
        start_seconds: float,
    ) -> None:
        self._config = config
        self._settings = settings
        self._facts = facts
        self._console = console
        self._start_seconds = start_seconds

    @property
    def _perf(self) -> PerfConfig:
        return self._settings.loaded.config.perf

    def run(
        self,
        held: Sequence[Recording],
        against: Against | None,
        *,
        alpha: float,
        budget: float | None = None,
    ) -> Trial:
        """Measure the tests until the gate has decided, or a budget ends, and return all of it.

        Args:
            held: the tests.
            against: the base arm, or None for the stored baselines.
            alpha: chance of any false ``regressed`` among these tests.
            budget: seconds; the configured one by default.

        Raises:
            DeviceBusyError: another session does not free the device.
        """
        paired = against is not None and against.spec is not None
        plan = make_plan(held, self._perf, self._start_seconds, paired=paired)
        if budget is not None:
            plan = replace(plan, budget=budget)
        self._console.plan(plan)
        gate = SessionGate(held, plan, self._facts, alpha, against)
        earlier, keep = self._kept(held, against)
        known = sum(map(len, earlier.values())) // 2
        if known:
            self._console.line(
                f"{known} pair{'s' if known != 1 else ''} of earlier sessions measured the very "
                "same, and count (perf.accumulate)"
            )
        wait = fit_wait(self._config, self._settings, self._console)
        measurement = MeasureStage(self._facts, self._console, wait).measure(
            plan, arms_of(self._settings, against), gate, earlier, keep
        )
        return Trial(held, plan, gate, measurement, against)

    def _kept(
        self, held: Sequence[Recording], against: Against | None
    ) -> tuple[dict[str, list[ProcessSample]], Keep | None]:
        """Return the pairs of earlier sessions that count, and what keeps those of this one."""
        common = self._identity(against) if self._perf.accumulate else None
        if against is None or common is None:
            return {}, None
        pairs = KeptPairs(cache_dir(os.environ) / "evidence")
        pairs.sweep()
        known = {
            recording.item.nodeid: {
                **common,
                "test": recording.item.nodeid,
                "workload": recording.workload.hash,
            }
            for recording in held
            if against.standing(recording.item.nodeid) == "same"
        }
        earlier = {nodeid: pairs.load(identity) for nodeid, identity in known.items()}
        for problem in pairs.problems:
            self._console.line(f"note: {problem}")

        def keep(nodeid: str, halves: Sequence[ProcessSample]) -> None:
            if nodeid in known:
                pairs.add(known[nodeid], halves)

        return {nodeid: found for nodeid, found in earlier.items() if found}, keep

    def _identity(self, against: Against | None) -> Mapping[str, Any] | None:
        """Return what makes this comparison the one it is; None where that can't be told."""
        if against is None or not against.identity:
            return None
        from pytest_llmperf.packages.fingerprint import (
            deciding_variables,
            fingerprint,
            modules_digest,
        )

        facts, root = self._facts, self._config.rootpath
        try:
            repository = Repository.around(root)
            if repository is None:
                return None
            written = own_files(self._config, self._settings.loaded.baselines_dir, repository)
            state = state_of(repository, written)
            modules = modules_digest(repository.top, ignored(repository))
        except GitError:
            return None
        return {
            "plugin": __version__,
            "machine": facts.machine.key,
            "iterations": self._perf.iterations,
            "warmup_max": self._perf.warmup_max,
            "turns": self._perf.turns,
            # What counts as fit decides which pairs were kept.
            "fitness": dict(sorted(self._perf.fitness.items())),
            # Both arms' processes inherit them.
            "variables": deciding_variables(os.environ),
            "base": dict(against.identity),
            "candidate": {
                "state": state,
                "ignored": modules,
                "environment": fingerprint(sys.version, sys.path, (repository.top,)),
                "llm": {k: v for k, v in facts.config.items() if k != "model_path"},
                "model": facts.model.sha256 or facts.model.name,
                "engine": f"{facts.info.engine} {facts.info.engine_version}",
                "build": facts.info.build_flags,
            },
        }
