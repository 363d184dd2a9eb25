"""Turns verdicts into reports of their tests: failures, warnings and properties."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_llmperf.gate.combine import worst
from pytest_llmperf.gate.verdict import FailPolicy, Verdict, verdict_fails
from pytest_llmperf.plugin.commands import as_argument, command_stem
from pytest_llmperf.plugin.outcome import add_warning, undecided_text
from pytest_llmperf.plugin.recording import HeldTest
from pytest_llmperf.report.failure import failure_text
from pytest_llmperf.report.properties import junit_properties
from pytest_llmperf.session.result import SessionResult


def log_verdicts(
    config: pytest.Config, held: Sequence[HeldTest], result: SessionResult, policy: FailPolicy
) -> list[tuple[Verdict, ...]]:
    """Log the held reports of every test, changed according to its verdicts.

    Returns the verdicts of each test that failed only because of them.
    """
    failed = []
    for one, test in zip(held, result.tests, strict=True):
        text = failure_text(
            test,
            busy=result.busy,
            policy=policy,
            command=command_stem(config),
            again=command_stem(config, again=True),
            against=result.against,
            argument=as_argument(config, test.nodeid),
        )
        for name, value in junit_properties(test):
            for report in one.reports:
                report.user_properties.append((name, value))
        if text:
            failing = worst(v for v in test.verdicts if verdict_fails(v, policy))
            label = failing.check.metric.label
            summary = f"{failing.kind.value}: {label}: {failing.claim}"
            summary += f"; likely cause: {test.causes[0]}" if test.causes else ""
            one.fail(text, summary)
            if one.call.failed:
                failed.append(test.verdicts)
        elif undecided := undecided_text(test.verdicts):
            add_warning(one.item, undecided)
        one.log()
    return failed
