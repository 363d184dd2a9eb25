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

    One process of each side, and of each cell of a sweep: the figures are the same every time. A
    problem is the verdict ``error`` of the tests with these settings, and ends no session.
    """
    by_settings: dict[str, list[RecordedTest]] = {}
    for test in tests:
        if test.quality is not None:
            own = test.cell.setup.spec.config if test.cell is not None else {}
            by_settings.setdefault(json.dumps(own, sort_keys=True), []).append(test)
    found: dict[str, TestQuality] = {}
    for alike in by_settings.values():
        found |= _measured(context, alike)
    return found


def _measured(context: SessionContext, judged: Sequence[RecordedTest]) -> dict[str, TestQuality]:
    """Return the quality of tests that have the same engine settings, by node id."""
    from pytest_llmperf.quality.limits import failed, figure_lines, judge, summary_of

    found: dict[str, TestQuality] = {}
    try:
        results = _results(context, judged)
    except (QualityError, ConfigError, EngineError, OSError) as error:
        for test in judged:
            rows = [
                CheckResult(Evidence(test.nodeid, check, (), 1), failed(check, str(error)))
                for check in test.quality_checks
            ]
            found[test.nodeid] = TestQuality(tuple(rows))
        return found
    for test, result in zip(judged, results, strict=True):
        rows = [
            CheckResult(
                Evidence(test.nodeid, check, (), 1),
                judge(check, result),
                summary_of(check, result),
            )
            for check in test.quality_checks
        ]
        found[test.nodeid] = TestQuality(tuple(rows), result, tuple(figure_lines(result)))
    return found


def _results(context: SessionContext, tests: Sequence[RecordedTest]) -> list[QualityResult]:
    """Measure tests of the same engine settings with one process of each side.

    The cells of a sweep are compared with one reference, that of the session. It gets the cell's
    context size, which changes no answer, to have room for the same prompts.

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
    # With a text of the configuration all tests are scored on the same.
    once = materials[:1] if text is not None else materials
    with device_held([spec, reference], console.line):
        found = qualities_of(spec, reference, once, say=console.line)
    return found * len(tests) if text is not None else found


def prompts_of(test: RecordedTest) -> list[Prompt | Text]:
    """Return a test's own prompts, with the length of their answers."""
    from pytest_llmperf.quality.passages import Prompt

    return [
        Prompt(recorded.prompt_token_ids, recorded.output_tokens)
        for recorded in test.workload.requests
    ]
