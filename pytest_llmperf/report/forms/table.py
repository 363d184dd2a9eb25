"""The forms of ``llmperf report``, by their option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmperf.report.forms.reported import ReportedSession


@dataclass(frozen=True)
class Form:
    """One form of a session.

    Attributes:
        option: of the command, without dashes.
        text: its help.
        render: returns the text for a session; with ``choices``, for one of them, too.
        choices: values of the option, which then needs one.
        needs_verdicts: a recorded session, which has none, can't have this form.
        numbers_only: void measurements are left out of it.
    """

    option: str
    text: str
    render: Callable[[ReportedSession, str], str]
    choices: tuple[str, ...] = ()
    needs_verdicts: bool = False
    numbers_only: bool = False


def _bmf(session: ReportedSession, _: str) -> str:
    from pytest_llmperf.report.forms.stored_elsewhere import bencher_metric_format

    return bencher_metric_format(session)


def _action_benchmark(session: ReportedSession, choice: str) -> str:
    from pytest_llmperf.metric_types import Direction
    from pytest_llmperf.report.forms.stored_elsewhere import action_benchmark

    direction = Direction.LOWER if choice == "smaller" else Direction.HIGHER
    return action_benchmark(session, direction)


#: In the order of ``llmperf report --help``.
FORMS = (
    Form("bmf", "Bencher Metric Format", _bmf, numbers_only=True),
    Form(
        "github-action-benchmark",
        "entries for customSmallerIsBetter or customBiggerIsBetter",
        _action_benchmark,
        choices=("smaller", "bigger"),
        numbers_only=True,
    ),
)
