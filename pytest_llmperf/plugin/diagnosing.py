"""Why a test that is too slow may be so: the findings of a diagnosis, without trying a change."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.measure.samples import CANDIDATE
from pytest_llmperf.report.model import CauseView, SessionView, TestReportView

if TYPE_CHECKING:
    import pytest

    from pytest_llmperf.diagnosis.situation import Hardware, Use
    from pytest_llmperf.measure.samples import Measurement
    from pytest_llmperf.measure.workload import Workload
    from pytest_llmperf.plugin.facts import SessionFacts
    from pytest_llmperf.plugin.trial import Trial

_TOO_SLOW = frozenset({VerdictKind.MISSED, VerdictKind.REGRESSED})


def with_diagnosis(
    view: SessionView, trial: Trial, facts: SessionFacts, config: pytest.Config
) -> SessionView:
    """Add to every test that missed a target, or regressed, why it may be slow."""
    if not any(map(_is_too_slow, view.tests)):
        return view
    try:
        return _diagnosed(view, trial, facts, config)
    except Exception as error:
        # Looking for causes must not lose the verdicts that were measured.
        why = f"{type(error).__name__}: {error}"
        return replace(view, notes=(*view.notes, f"looking for causes failed: {why}"))


def _diagnosed(
    view: SessionView, trial: Trial, facts: SessionFacts, config: pytest.Config
) -> SessionView:
    from pytest_llmperf.diagnosis.gathering import look_at_hardware

    workloads = {recording.item.nodeid: recording.workload for recording in trial.held}
    explain = partial(
        _explained,
        workloads=workloads,
        measurement=trial.measurement,
        facts=facts,
        hardware=look_at_hardware(),
        stem=_doctor_stem(config),
    )
    tests = tuple(explain(test) if _is_too_slow(test) else test for test in view.tests)
    return replace(view, tests=tests)


def _is_too_slow(test: TestReportView) -> bool:
    return any(reason.kind in _TOO_SLOW for verdict in test.verdicts for reason in verdict.reasons)


def _explained(
    test: TestReportView,
    *,
    workloads: Mapping[str, Workload],
    measurement: Measurement,
    facts: SessionFacts,
    hardware: Hardware,
    stem: str,
) -> TestReportView:
    from pytest_llmperf.diagnosis.gathering import worst_of_each
    from pytest_llmperf.diagnosis.registry import examine
    from pytest_llmperf.diagnosis.situation import Situation

    samples = measurement.tests[test.nodeid]
    # What the verdict rests on: this arm's processes that count.
    found = (f for one in samples.processes if one.arm == CANDIDATE for f in one.findings)
    use = _use(workloads[test.nodeid])
    situation = Situation(
        config=facts.config,
        hardware=hardware,
        info=facts.info,
        use=use,
        metrics={row.check.metric.name: row.summary.value for row in test.rows if row.summary},
        findings=worst_of_each(found),
        model_bytes=facts.info.file_bytes,
    )
    causes = tuple(
        CauseView(
            name=one.cause.name,
            title=one.cause.title,
            evidence=one.evidence.text,
            change=one.evidence.remedy.change,
            certain=one.evidence.certain,
        )
        for one in examine(situation)
    )
    if not causes:
        return test
    sizes = f" --prompt-tokens {use.prompt_tokens}" if use.prompt_tokens else ""
    command = f"{stem}{sizes} --max-tokens {use.output_tokens}"
    return replace(test, diagnosis=causes, doctor_command=command)


def _use(workload: Workload) -> Use:
    from pytest_llmperf.diagnosis.situation import Use

    requests = workload.requests
    return Use(
        prompt_tokens=max(len(one.prompt_token_ids) for one in requests),
        output_tokens=max(one.output_tokens for one in requests),
        context=max(len(one.prompt_token_ids) + one.output_tokens for one in requests),
        own=True,
    )


def _doctor_stem(config: pytest.Config) -> str:
    """Return the command that examines this session's configuration, from where it was started."""
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.plugin.options import Options
    from pytest_llmperf.plugin.settings import settings_of

    here, file = config.invocation_params.dir, settings_of(config).loaded.path
    words = ["llmperf", "doctor"]
    if file is not None and file != ProjectFolders.around(here).config_file():
        words += ["--config", os.path.relpath(file, here)]
    for override in Options.of(config).overrides:
        words += ["--set", override]
    return shlex.join(words)
