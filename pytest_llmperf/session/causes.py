"""Causes of a slow test: changes of commit or configuration, and what a diagnosis finds."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.causes import NAMED_SETTINGS, EngineState, beyond_cores, causes
from pytest_llmperf.baselines.match import explaining_differences
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
    from pytest_llmperf.diagnosis.situation import Hardware, WorkloadSize
    from pytest_llmperf.measure.workload import Workload
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.session.trial import Trial

#: Findings on threads; more threads than cores explain a change only if the baseline had fewer.
_BEYOND, _THREADS = "threads_beyond_cores", "other_threads"


def configured_findings(
    facts: SessionFacts,
    nodeid: str,
    baseline: StoredRecord | None,
    base: BaseSide | None,
    loaded: Mapping[str, EngineInfo],
) -> list[FitnessFinding]:
    """Return findings on how configuration or build differ from a test's baseline or base side.

    Args:
        facts: this session's facts, for the test.
        nodeid: the test's node id.
        baseline: the newest stored session that judges the test, or None.
        base: the base side, which replaces the baseline, or None.
        loaded: what each side's engine had loaded for the test, by side.
    """
    findings = beyond_cores(facts.config, usable_cpus())
    sides = (
        _sides(facts, base, loaded)
        if base is not None
        else _stored(facts, nodeid, baseline, loaded)
    )
    if sides is not None:
        findings = [*causes(*sides), *findings]
    # In order of significance, not of severity.
    return [with_severities([finding], facts.watch.severities)[0] for finding in findings]


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
    """Return differences other than speed, those that affect speed first.

    Compared with the newest session that judged the test, or with the base side.
    """
    known_causes = [finding.text for finding in configured if finding.name != _BEYOND]
    if base is not None:
        return (*known_causes, *base.differences)
    if baseline is None:
        return ()
    named = {setting for finding in configured for setting in NAMED_SETTINGS.get(finding.name, ())}
    differences = explaining_differences(
        baseline, facts.machine, facts.provenance, facts.config, nodeid
    )
    rest = (f"{d.item}: {d.baseline} → {d.current}" for d in differences if d.item not in named)
    return (*known_causes, *rest)


class Explainer:
    """Finds causes of tests that miss a target or regressed.

    Attributes:
        problems: why the search failed, one line each.
    """

    def __init__(self) -> None:
        self._hardware: Hardware | None = None
        self.problems: list[str] = []

    def explain(self, trial: Trial, test: RecordedTest) -> tuple[DiagnosedCause, ...]:
        """Return the visible causes of a slow test, the costliest first; none if it is not slow."""
        slow = _too_slow([row.verdict for row in trial.checks[test.nodeid] if row.verdict])
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
        # Like the verdict, only the candidate's valid processes count.
        valid = [sample for sample in samples.processes if sample.side == CANDIDATE]
        # Without any, the void ones of an overloaded server still show why it can't keep up.
        loaded = valid or [sample for sample in samples.voided if sample.side == CANDIDATE]
        findings = (finding for sample in valid for finding in sample.findings)
        checks = [row for row in trial.checks[test.nodeid] if row.summary]
        situation = Situation(
            config=facts.config,
            hardware=self._hardware,
            info=facts.info,
            workload_size=_workload_size(test.workload),
            metrics={row.check.metric.name: row.summary.value for row in checks if row.summary},
            findings=worst_of_each(findings),
            model_bytes=facts.info.file_bytes,
            loads=[sample.load for sample in loaded if sample.load is not None],
            uses=[sample.use for sample in loaded if sample.use is not None],
            base_uses=[s.use for s in samples.processes if s.side == BASE and s.use is not None],
        )
        return tuple(
            DiagnosedCause(
                name=visible.cause.name,
                title=visible.cause.title,
                evidence=visible.evidence.text,
                change=visible.evidence.remedy.change,
                certain=visible.evidence.certain,
            )
            for visible in examine(situation)
        )


def doctor_command(setup: EngineSetup, workload: Workload) -> str:
    """Return the ``llmperf doctor`` command that measures each change's effect.

    It is run where this session was started. Empty for a server, whose settings can't be changed.
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
    size = _workload_size(workload)
    if size.prompt_tokens:
        words += ["--prompt-tokens", str(size.prompt_tokens)]
    return shlex.join([*words, "--max-tokens", str(size.output_tokens)])


def _too_slow(verdicts: Sequence[Verdict]) -> set[VerdictKind]:
    """Return which of ``missed`` and ``regressed`` occur in the verdicts or their reasons."""
    kinds = {reason.kind for verdict in verdicts for reason in verdict.reasons}
    kinds |= {verdict.kind for verdict in verdicts}
    return kinds & {VerdictKind.REGRESSED, VerdictKind.MISSED}


def _is_over_saturated(samples: TestSamples) -> bool:
    """Whether nothing can be judged because the server did not keep up with the load."""
    return not samples.processes and any(
        finding.name == "over_saturated" for sample in samples.voided for finding in sample.findings
    )


def _stored(
    facts: SessionFacts,
    nodeid: str,
    baseline: StoredRecord | None,
    loaded: Mapping[str, EngineInfo],
) -> tuple[EngineState, EngineState] | None:
    if baseline is None:
        return None
    # From the measured processes: the engine that ran the bodies may have placed layers otherwise.
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


def _workload_size(workload: Workload) -> WorkloadSize:
    from pytest_llmperf.diagnosis.situation import WorkloadSize

    requests = workload.requests
    return WorkloadSize(
        prompt_tokens=max(len(request.prompt_token_ids) for request in requests),
        output_tokens=max(request.output_tokens for request in requests),
        context=max(len(r.prompt_token_ids) + r.output_tokens for r in requests),
        is_users=True,
    )
