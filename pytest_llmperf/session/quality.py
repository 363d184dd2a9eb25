"""Measures and judges the quality of a session's tests, before their speed is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.gate.check import Evidence
from pytest_llmperf.quality.errors import QualityError
from pytest_llmperf.session.measuring import device_held
from pytest_llmperf.session.result import CheckResult

if TYPE_CHECKING:
    from pytest_llmperf.quality.figures import QualityResult
    from pytest_llmperf.quality.passages import Prompt, Text
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest


@dataclass(frozen=True)
class TestQuality:
    """The quality of one test's answers.

    Attributes:
        rows: the judged figures.
        result: all figures; None if they could not be measured.
        lines: the figures in words, and remarks.
    """

    __test__ = False  # not a test class, whatever pytest's collector thinks of its name

    rows: tuple[CheckResult, ...]
    result: QualityResult | None = None
    lines: tuple[str, ...] = ()


def measure_quality(
    context: SessionContext, tests: Sequence[RecordedTest]
) -> Mapping[str, TestQuality]:
    """Return the quality of the tests that have limits for it, by node id.

    One process of each side and of each sweep cell is enough, as the figures never vary. A problem
    gives the tests with these settings the verdict ``error``, and the session goes on.
    """
    by_settings: dict[str, list[RecordedTest]] = {}
    for test in tests:
        if test.quality is not None:
            own = test.cell.setup.spec.config if test.cell is not None else {}
            by_settings.setdefault(json.dumps(own, sort_keys=True), []).append(test)
    qualities: dict[str, TestQuality] = {}
    for alike in by_settings.values():
        qualities |= _measured(context, alike)
    return qualities


def _measured(context: SessionContext, judged: Sequence[RecordedTest]) -> dict[str, TestQuality]:
    """Return the quality of tests that have the same engine settings, by node id."""
    from pytest_llmperf.quality.limits import failed, figure_lines, judge, summary_of

    qualities: dict[str, TestQuality] = {}
    try:
        results = _results(context, judged)
    except (QualityError, ConfigError, EngineError, OSError) as error:
        for test in judged:
            rows = [
                CheckResult(Evidence(test.nodeid, check, (), 1), failed(check, str(error)))
                for check in test.quality_checks
            ]
            qualities[test.nodeid] = TestQuality(tuple(rows))
        return qualities
    for test, result in zip(judged, results, strict=True):
        rows = [
            CheckResult(
                Evidence(test.nodeid, check, (), 1),
                judge(check, result),
                summary_of(check, result),
            )
            for check in test.quality_checks
        ]
        qualities[test.nodeid] = TestQuality(tuple(rows), result, tuple(figure_lines(result)))
    return qualities


def _results(context: SessionContext, tests: Sequence[RecordedTest]) -> list[QualityResult]:
    """Measure tests of the same engine settings with one process of each side.

    All cells of a sweep are compared with the session's reference. It gets the cell's context
    size, which changes no answer, so that it has room for the same prompts.

    Raises:
        QualityError, ConfigError, EngineError, OSError: they can't be measured.
    """
    from pytest_llmperf.quality.measure import qualities_of
    from pytest_llmperf.quality.reference import configured_text, reference_spec

    setup, console, cell = context.setup, context.console, tests[0].cell
    spec, reference = setup.spec, reference_spec(setup.loaded, setup.spec)
    if cell is not None:
        spec = cell.setup.spec
        size = {"n_ctx": spec.config["n_ctx"]}
        reference = replace(reference, config={**reference.config, **size})
    text = configured_text(setup.loaded)
    materials = [[text] if text is not None else prompts_of(test) for test in tests]
    # If the configuration names a text, all tests are scored on it.
    once = materials[:1] if text is not None else materials
    with device_held([spec, reference], console.line):
        results = qualities_of(spec, reference, once, say=console.line)
    return results * len(tests) if text is not None else results


def prompts_of(test: RecordedTest) -> list[Prompt | Text]:
    """Return a test's own prompts, with the length of their answers."""
    from pytest_llmperf.quality.passages import Prompt

    return [
        Prompt(request.prompt_token_ids, request.output_tokens)
        for request in test.workload.requests
    ]
