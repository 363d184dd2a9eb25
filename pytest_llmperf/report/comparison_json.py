"""A comparison of stored sessions as JSON: a session's report, and what its sides are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmperf.compare.result import ComparisonOutcome
from pytest_llmperf.report.json_report import SCHEMA_VERSION, session_json

if TYPE_CHECKING:
    from pytest_llmperf.compare.result import ComparisonResult


def comparison_json(result: ComparisonResult) -> dict[str, Any]:
    """The comparison as plain JSON: a session's report, and what its sides are.

    Beside the keys of ``--llmperf-json`` there is::

        compare     base, judged (names), base_sessions, unlike [text], added [node id],
                    removed [node id], outcome ("fine", "inconclusive", "not compared",
                    "missed" or "regressed"), why_not (text or null), strict

    What the session of a report said itself is among a metric's ``reasons``, with the strategy
    "report", and is the verdict where judging it again came to a milder one.
    """
    return {
        **session_json(result.session),
        "compare": {
            "base": result.base,
            "judged": result.candidate,
            "base_sessions": result.base_sessions,
            "unlike": list(result.unlike),
            "added": list(result.added),
            "removed": list(result.removed),
            "outcome": result.outcome.value,
            "why_not": result.why_not or None,
            "strict": result.strict,
        },
    }


def refusal_json(base: str, candidate: str, why: str) -> dict[str, Any]:
    """The JSON of two arguments that could not be compared at all."""
    return {
        "schema": SCHEMA_VERSION,
        "session": None,
        "counts": {},
        "tests": [],
        "compare": {
            "base": base,
            "judged": candidate,
            "outcome": ComparisonOutcome.NOT_COMPARED.value,
            "why_not": why,
        },
    }
