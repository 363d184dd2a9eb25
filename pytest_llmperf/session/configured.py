"""Findings on how commit or configuration changed the engine against a baseline or base side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_llmperf.baselines.causes import NAMED_SETTINGS, EngineState, beyond_cores, causes
from pytest_llmperf.baselines.match import notes as differences_from
from pytest_llmperf.baselines.record import Loaded
from pytest_llmperf.baselines.store import StoredRecord
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.machine.fitness import FitnessFinding, with_severities
from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.session.base_side import BaseSide
from pytest_llmperf.session.facts import SessionFacts

#: Findings on threads; more than the cores explain a change only if the baseline had fewer.
_BEYOND, _THREADS = "threads_beyond_cores", "other_threads"


def configured_findings(
    facts: SessionFacts,
    baseline: StoredRecord | None,
    base: BaseSide | None,
    loaded: Mapping[str, EngineInfo],
) -> list[FitnessFinding]:
    """Return how configuration or build differ from a test's baseline or base side.

    Args:
        facts: of this session.
        baseline: the newest stored session that judges the test, or None.
        base: the base side, which replaces the baseline, or None.
        loaded: info of each side's engine, by side.
    """
    found = beyond_cores(facts.config, usable_cpus())
    sides = _sides(facts, base, loaded) if base is not None else _stored(facts, baseline, loaded)
    if sides is not None:
        found = [*causes(*sides), *found]
    # In order of significance, not of severity.
    return [with_severities([one], facts.severities)[0] for one in found]


def stored_causes(facts: SessionFacts, baseline: StoredRecord) -> list[FitnessFinding]:
    """Return differences in configuration or build from a stored session."""
    sides = _stored(facts, baseline, {})
    return [] if sides is None else causes(*sides)


def explanations_of(
    verdicts: Sequence[Verdict], configured: Sequence[FitnessFinding]
) -> tuple[str, ...]:
    """Return texts that explain why a test is slower or misses a target."""
    kinds = {reason.kind for verdict in verdicts for reason in verdict.reasons}
    kinds |= {verdict.kind for verdict in verdicts}
    if not kinds & {VerdictKind.REGRESSED, VerdictKind.MISSED}:
        return ()
    names = {finding.name for finding in configured}
    alike = VerdictKind.MISSED not in kinds and _THREADS not in names
    return tuple(
        finding.text
        for finding in configured
        if finding.severity != "note" and not (finding.name == _BEYOND and alike)
    )


def differences_of(
    facts: SessionFacts,
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
    found = differences_from(baseline, facts.machine, facts.provenance, facts.config)
    rest = (f"{d.item}: {d.baseline} → {d.current}" for d in found if d.item not in named)
    return (*known_causes, *rest)


def _stored(
    facts: SessionFacts, baseline: StoredRecord | None, loaded: Mapping[str, EngineInfo]
) -> tuple[EngineState, EngineState] | None:
    if baseline is None:
        return None
    # From the measured processes: the engine of the bodies may have placed layers differently.
    measured = Loaded.of(loaded[CANDIDATE]) if CANDIDATE in loaded else facts.loaded
    record = baseline.record
    return (
        EngineState(facts.provenance.backend, facts.config, measured),
        EngineState(record.provenance.backend, record.config, record.loaded),
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
