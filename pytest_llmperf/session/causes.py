"""Causes of a slow test: what commit or configuration changed, and what a diagnosis sees."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.causes import NAMED_SETTINGS, EngineState, beyond_cores, causes
from pytest_llmperf.baselines.match import notes as differences_from
from pytest_llmperf.baselines.record import Loaded
from pytest_llmperf.baselines.store import StoredRecord
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.machine.fitness import FitnessFinding, with_severities
from pytest_llmperf.measure.samples import BASE, CANDIDATE, TestSamples
from pytest_llmperf.session.base_side import BaseSide
from pytest_llmperf.session.facts import SessionFacts
from pytest_llmperf.session.result import DiagnosedCause

if TYPE_CHECKING:
    from pytest_llmperf.diagnosis.situation import Hardware, Use
    from pytest_llmperf.measure.workload import Workload
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.session.trial import Trial

#: Findings on threads; more than the cores explain a change only if the baseline had fewer.
_BEYOND, _THREADS = "threads_beyond_cores", "other_threads"


def configured_findings(
    facts: SessionFacts,
    nodeid: str,
    baseline: StoredRecord | None,
    base: BaseSide | None,
    loaded: Mapping[str, EngineInfo],
) -> list[FitnessFinding]:
    """Return how configuration or build differ from a test's baseline or base side.

    Args:
        facts: of this session, for the test.
        nodeid: of the test.
        baseline: the newest stored session that judges the test, or None.
        base: the base side, which replaces the baseline, or None.
        loaded: what each side's engine had loaded for the test, by side.
    """
    found = beyond_cores(facts.config, usable_cpus())
    sides = (
        _sides(facts, base, loaded)
        if base is not None
        else _stored(facts, nodeid, baseline, loaded)
    )
    if sides is not None:
        found = [*causes(*sides), *found]
    # In order of significance, not of severity.
    return [with_severities([one], facts.watch.severities)[0] for one in found]


def stored_causes(
    facts: SessionFacts, test: RecordedTest, baseline: StoredRecord
) -> list[FitnessFinding]:
    """Return differences in a test's configuration or build from a stored session."""
    sides = _stored(facts.for_test(test), test.nodeid, baseline, {})
    return [] if sides is None else causes(*sides)


def explanations_of(
    verdicts: Sequence[Verdict], configured: Sequence[FitnessFinding]
) -> tuple[str, ...]:
    """Return texts that explain why a test is slower or misses a target."""
    slow = _too_slow(verdicts)
    if not slow:
        return ()
    names = {finding.name for finding in configured}
    alike = VerdictKind.MISSED not in slow and _THREADS not in names
    return tuple(
        finding.text
        for finding in configured
        if finding.severity != "note" and not (finding.name == _BEYOND and alike)
    )


def differences_of(
    facts: SessionFacts,
    nodeid: str,
    baseline: StoredRecord | None,
    base: BaseSide | None,
    configured: Sequence[FitnessFinding],
) -> tuple[str, ...]:
    """Return other differences than speed, those that affect speed first.

    Compared with the newest session that judged the test, or with the base side.
    """
    known_causes = [finding.text for finding in configured if finding.name != _BEYOND]
    if base is not None:
        return (*known_causes, *base.differences)
    if baseline is None:
        return ()
    named = {setting for finding in configured for setting in NAMED_SETTINGS.get(finding.name, ())}
    found = differences_from(baseline, facts.machine, facts.provenance, facts.config, nodeid)
    rest = (f"{d.item}: {d.baseline} → {d.current}" for d in found if d.item not in named)
    return (*known_causes, *rest)


class Explainer:
    """Looks for causes of tests that miss a target or regressed.

    Attributes:
        problems: why looking failed, one line each.
    """

    def __init__(self) -> None:
        self._hardware: Hardware | None = None
        self.problems: list[str] = []

    def explain(self, trial: Trial, test: RecordedTest) -> tuple[DiagnosedCause, ...]:
        """Return the visible causes of a slow test, the costliest first; none if it is not slow."""
        slow = _too_slow([one.verdict for one in trial.checks[test.nodeid] if one.verdict])
        if not slow and not _is_over_saturated(trial.measurement.tests[test.nodeid]):
            return ()
        try:
            return self._examined(trial, test)
        except Exception as error:
            # Looking for causes must not lose the verdicts that were measured.
            problem = f"looking for causes failed: {type(error).__name__}: {error}"
            if problem not in self.problems:
                self.problems.append(problem)
            return ()

    def _examined(self, trial: Trial, test: RecordedTest) -> tuple[DiagnosedCause, ...]:
        from pytest_llmperf.diagnosis.registry import examine
        from pytest_llmperf.diagnosis.situation import Situation, look_at_hardware
        from pytest_llmperf.machine.fitness import worst_of_each

        if self._hardware is None:
            self._hardware = look_at_hardware()
        facts, samples = trial.facts.for_test(test), trial.measurement.tests[test.nodeid]
        # As the verdict: only this side's valid processes.
        valid = [one for one in samples.processes if one.side == CANDIDATE]
        # Without any, those of a server that can't keep up still say why it can't.
        loaded = valid or [one for one in samples.voided if one.side == CANDIDATE]
        found = (finding for one in valid for finding in one.findings)
        checks = [one for one in trial.checks[test.nodeid] if one.summary]
        situation = Situation(
            config=facts.config,
            hardware=self._hardware,
            info=facts.info,
            use=_use(test.workload),
            metrics={one.check.metric.name: one.summary.value for one in checks if one.summary},
            findings=worst_of_each(found),
            model_bytes=facts.info.file_bytes,
            loads=[one.load for one in loaded if one.load is not None],
            uses=[one.use for one in loaded if one.use is not None],
            base_uses=[
                one.use for one in samples.processes if one.side == BASE and one.use is not None
            ],
        )
        return tuple(
            DiagnosedCause(
                name=one.cause.name,
                title=one.cause.title,
                evidence=one.evidence.text,
                change=one.evidence.remedy.change,
                certain=one.evidence.certain,
            )
            for one in examine(situation)
        )


def doctor_command(setup: EngineSetup, workload: Workload) -> str:
    """Return the command that measures each change's effect, from the folder it was started in.

    Empty for a server, whose settings are not the doctor's to change.
    """
    if setup.llm.kind.loads:
        return ""
    from pytest_llmperf.config.project import ProjectFolders

    started, file = setup.project.started, setup.loaded.path
    words = ["llmperf", "doctor"]
    if file is not None and file != ProjectFolders.around(started).config_file():
        try:
            words += ["--config", os.path.relpath(file, started)]
        except ValueError:  # on another drive
            words += ["--config", str(file)]
    for override in setup.overrides:
        words += ["--set", override]
    use = _use(workload)
    if use.prompt_tokens:
        words += ["--prompt-tokens", str(use.prompt_tokens)]
    return shlex.join([*words, "--max-tokens", str(use.output_tokens)])


def _too_slow(verdicts: Sequence[Verdict]) -> set[VerdictKind]:
    """Return which of ``missed`` and ``regressed`` the verdicts or their reasons say."""
    kinds = {reason.kind for verdict in verdicts for reason in verdict.reasons}
    kinds |= {verdict.kind for verdict in verdicts}
    return kinds & {VerdictKind.REGRESSED, VerdictKind.MISSED}


def _is_over_saturated(samples: TestSamples) -> bool:
    """Whether a load that the server can't keep up with left nothing to judge."""
    return not samples.processes and any(
        finding.name == "over_saturated" for one in samples.voided for finding in one.findings
    )


def _stored(
    facts: SessionFacts,
    nodeid: str,
    baseline: StoredRecord | None,
    loaded: Mapping[str, EngineInfo],
) -> tuple[EngineState, EngineState] | None:
    if baseline is None:
        return None
    # From the measured processes: the engine of the bodies may have placed layers differently.
    measured = Loaded.of(loaded[CANDIDATE]) if CANDIDATE in loaded else facts.loaded
    record = baseline.record
    return (
        EngineState(facts.provenance.backend, facts.config, measured),
        EngineState(record.provenance.backend, record.config_of(nodeid), record.loaded_of(nodeid)),
    )


def _sides(
    facts: SessionFacts, base: BaseSide, loaded: Mapping[str, EngineInfo]
) -> tuple[EngineState, EngineState] | None:
    candidate_info, base_info = loaded.get(CANDIDATE), loaded.get(BASE)
    if candidate_info is None or base_info is None or base.llm is None:
        return None
    return (
        EngineState("", facts.config, Loaded.of(candidate_info)),
        EngineState("", base.llm.resolved(), Loaded.of(base_info), base.name),
    )


def _use(workload: Workload) -> Use:
    from pytest_llmperf.diagnosis.situation import Use

    requests = workload.requests
    return Use(
        prompt_tokens=max(len(one.prompt_token_ids) for one in requests),
        output_tokens=max(one.output_tokens for one in requests),
        context=max(len(one.prompt_token_ids) + one.output_tokens for one in requests),
        own=True,
    )
