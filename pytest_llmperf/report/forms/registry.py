"""The output forms of ``llmperf report``, one per option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmperf.report.reported import ReportedSession


@dataclass(frozen=True)
class FormRequest:
    """Values that the command passes to a form.

    Attributes:
        value: value of the form's option, if it has choices.
        to_repository_path: turns a test's file into a path from the top of the repository.
        longest: longest page, in characters.
    """

    value: str
    to_repository_path: Callable[[str], str]
    longest: int


@dataclass(frozen=True)
class Form:
    """One output form of a session.

    Attributes:
        option: option of the command, without dashes.
        text: help of the option.
        render: returns the output for a session.
        choices: allowed values of the option; empty if it takes none.
        needs_verdicts: whether recorded sessions, which have no verdicts, are refused.
        numbers_only: whether void measurements are left out.
    """

    option: str
    text: str
    render: Callable[[ReportedSession, FormRequest], str]
    choices: tuple[str, ...] = ()
    needs_verdicts: bool = False
    numbers_only: bool = False


def _markdown(session: ReportedSession, request: FormRequest) -> str:
    from pytest_llmperf.report.forms.markdown import session_markdown

    return session_markdown(session, request.longest)


def _github(session: ReportedSession, request: FormRequest) -> str:
    from pytest_llmperf.report.forms.github import workflow_commands

    return workflow_commands(session, request.to_repository_path)


def _gitlab(session: ReportedSession, request: FormRequest) -> str:
    from pytest_llmperf.report.forms.gitlab import code_quality

    return code_quality(session, request.to_repository_path)


def _junit(session: ReportedSession, _: FormRequest) -> str:
    from pytest_llmperf.report.forms.junit import junit_xml

    return junit_xml(session)


def _bmf(session: ReportedSession, _: FormRequest) -> str:
    from pytest_llmperf.report.forms.benchmark_trackers import bencher_metric_format

    return bencher_metric_format(session)


def _action_benchmark(session: ReportedSession, request: FormRequest) -> str:
    from pytest_llmperf.metric_types import Direction
    from pytest_llmperf.report.forms.benchmark_trackers import action_benchmark

    direction = Direction.LOWER if request.value == "smaller" else Direction.HIGHER
    return action_benchmark(session, direction)


def _openmetrics(session: ReportedSession, _: FormRequest) -> str:
    from pytest_llmperf.report.forms.openmetrics import openmetrics

    return openmetrics(session)


#: All forms, in the order of ``llmperf report --help``.
FORMS = (
    Form("markdown", "a page for a comment, its verdict first", _markdown),
    Form(
        "github",
        "annotations of GitHub Actions, and the page in the step's summary",
        _github,
        needs_verdicts=True,
    ),
    Form(
        "gitlab",
        "GitLab's Code Quality report (artifacts:reports:codequality)",
        _gitlab,
        needs_verdicts=True,
    ),
    Form("junit", "JUnit XML", _junit, needs_verdicts=True),
    Form("bmf", "Bencher Metric Format", _bmf, numbers_only=True),
    Form(
        "github-action-benchmark",
        "entries for its customSmallerIsBetter or customBiggerIsBetter",
        _action_benchmark,
        choices=("smaller", "bigger"),
        numbers_only=True,
    ),
    Form("openmetrics", "OpenMetrics text, also for GitLab", _openmetrics, numbers_only=True),
)
