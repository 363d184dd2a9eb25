"""How a search reads a session's JSON report, and how certain its answer is."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_histories import RATES

from pytest_llmperf.bisect.outcome import BisectOutcome, JudgedCommit
from pytest_llmperf.bisect.session import (
    BisectFinding,
    BisectReport,
    BisectSession,
    CheckKey,
    Judgement,
    judge,
)
from pytest_llmperf.stored_json import ShapeError, dump, read

TEST = "test_it.py::test_x"


def metric(**changes: Any) -> dict[str, Any]:
    """Return a metric as ``--llmperf-json`` writes it, with the keys that are read."""
    proof = {"effect": 0.1, "low": 0.08, "high": 0.12, "bound": 0.12}
    return {
        "name": "tokens_per_sec",
        "gated": True,
        "verdict": "regressed",
        "explanation": "10% slower",
        "strategy": "interleaved",
        "change": 0.09,
        "proof": proof,
        "reasons": [{"verdict": "regressed", "strategy": "interleaved", "text": "10% slower"}],
        **changes,
    }


def single_finding(**changes: Any) -> BisectFinding:
    (finding,) = findings_of(metric(**changes))
    return finding


def findings_of(*metrics: dict[str, Any]) -> tuple[BisectFinding, ...]:
    data = {"session": {"machine": "m"}, "tests": [{"nodeid": TEST, "metrics": metrics}]}
    return read(BisectReport, data).findings


def test_a_finding_has_the_effect_and_its_interval() -> None:
    found = single_finding()
    assert found.check == CheckKey(TEST, "tokens_per_sec")
    assert (found.verdict, found.effect, found.low, found.high) == ("regressed", 0.1, 0.08, 0.12)


def test_a_missed_target_is_not_what_is_asked() -> None:
    reasons = [
        {"verdict": "missed", "strategy": "target", "text": "below 60 tok/s"},
        {"verdict": "pass", "strategy": "interleaved", "text": "as fast"},
    ]
    found = single_finding(verdict="missed", strategy="target", reasons=reasons)
    # The reported proof is that of the target, so the comparison has no interval.
    assert (found.verdict, found.text, found.effect, found.low) == ("pass", "as fast", 0.09, None)


def test_an_undecided_target_is_not_what_is_asked() -> None:
    reasons = [
        {"verdict": "inconclusive", "strategy": "target", "text": "near the limit"},
        {"verdict": "pass", "strategy": "interleaved", "text": "as fast"},
    ]
    assert (
        single_finding(verdict="inconclusive", strategy="target", reasons=reasons).verdict == "pass"
    )


@pytest.mark.parametrize("changes", [{"gated": False}, {"verdict": None}])
def test_what_is_shown_only_is_no_finding(changes: dict[str, Any]) -> None:
    assert findings_of(metric(**changes)) == ()


@pytest.mark.parametrize("report", [{}, {"tests": [{}]}, {"tests": [{"metrics": [{}]}]}])
def test_what_is_no_report_raises(report: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match="missing"):
        read(BisectReport, {"session": {"machine": "m"}, **report})


def test_a_session_survives_json() -> None:
    session = BisectSession(
        "a" * 40, "b" * 40, (single_finding(),), seconds=1.5, machine="m", fresh=True
    )
    assert read(BisectSession, dump(session)) == session


CHECKS = (CheckKey(TEST, "decode"), CheckKey(TEST, "prefill"))


@pytest.mark.parametrize(
    ("verdicts", "call"),
    [
        (("regressed", "pass"), "bad"),
        (("regressed", "inconclusive"), "bad"),
        (("error", "regressed"), "bad"),
        (("pass", "improved"), "good"),
        (("pass", "inconclusive"), "skip"),
        (("pass", "invalid"), "skip"),
        (("pass", "error"), "skip"),
        (("pass", "workload changed"), "skip"),
        (("pass", "no baseline"), "skip"),
    ],
)
def test_any_regression_is_bad_and_all_must_be_fine_to_be_good(
    verdicts: tuple[str, str], call: str
) -> None:
    findings = tuple(
        BisectFinding(check.test, check.metric, verdict)
        for check, verdict in zip(CHECKS, verdicts, strict=True)
    )
    assert judge(BisectSession("c", "g", findings), CHECKS).call == call


def test_a_test_that_is_missing_is_a_reason_to_skip() -> None:
    session = BisectSession("c", "g", (BisectFinding(TEST, "decode", "pass"),))
    assert judge(session, CHECKS) == Judgement("skip", f"{TEST} [prefill] was not measured")


def test_a_problem_is_told_by_its_first_line() -> None:
    session = BisectSession("c", "g", problem="it does not build\n  | a log")
    assert judge(session, CHECKS) == Judgement("skip", "it does not build")


def outcome(calls: str, confirmed: bool = True) -> BisectOutcome:
    names = {"b": "bad", "g": "good", "s": "skip"}
    path = tuple(
        JudgedCommit(BisectSession("c", "g"), Judgement(names[call]))  # type: ignore[arg-type]
        for call in calls
    )
    return BisectOutcome(
        "found" if confirmed else "unconfirmed", BisectSession("c", "g"), RATES, CHECKS, path
    )


def test_the_searchs_error_is_the_sum_of_its_calls_rates() -> None:
    # The bad end is a call as well; a skipped commit is not.
    assert outcome("bgsg").search_error == pytest.approx(2 * 0.01 + 2 * 0.05)


def test_a_bound_is_never_more_than_certain() -> None:
    assert outcome("g" * 30).search_error == 1.0


def test_a_confirmed_effect_is_wrong_as_often_as_one_false_alarm() -> None:
    assert outcome("bg").own_error == 0.01
    assert outcome("bg", confirmed=False).own_error is None
