"""Writes the report files that a session was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.plugin.commands import as_argument, command_stem, whole_command
from pytest_llmperf.report.failure import rerun_command
from pytest_llmperf.report.json_report import ReportError, session_json, write_json
from pytest_llmperf.session.report_history import report_history
from pytest_llmperf.stored_json import ShapeError

if TYPE_CHECKING:
    import pytest

    from pytest_llmperf.plugin.options import Options
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.result import SessionResult


def write_reports(
    config: pytest.Config, options: Options, context: SessionContext, result: SessionResult
) -> list[str]:
    """Write the report files, and return what could not be written, one line each."""
    result = _with_commands(config, result)
    result = replace(result, history=report_history(result, context.baselines_dir))
    problems = []
    if options.json_path is not None:
        try:
            write_json(options.json_path, result)
        except ReportError as error:
            problems.append(str(error))
    if options.html_path is not None:
        from pytest_llmperf.report.html import write_html

        try:
            write_html(session_json(result), options.html_path, samples=options.html_samples)
        except ReportError as error:
            problems.append(str(error))
        except ShapeError as error:
            problems.append(f"can't write the HTML report: the session's own report has {error}")
    return problems


def _with_commands(config: pytest.Config, result: SessionResult) -> SessionResult:
    """Return the result with the commands that run the session, and each of its tests, again."""
    stem = command_stem(config, with_comparison=True)
    tests = [
        replace(test, command=rerun_command(as_argument(config, test.nodeid), stem))
        for test in result.tests
    ]
    return replace(result, command=whole_command(config), tests=tuple(tests))
