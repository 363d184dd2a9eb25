"""The headline of a session: the worst verdict that is known, and no claim beyond it."""

from __future__ import annotations

from typing import Any

import pytest
from report_variants import case, check, comparison, of_verdicts, reason, variant

from pytest_llmperf.report.forms.headline import headline
from pytest_llmperf.report.reported import session_of


def headline_text(data: dict[str, Any]) -> str:
    worst, counts = headline(session_of(data))
    return f"{worst} ({counts})"


def test_the_real_session(real: dict[str, Any]) -> None:
    assert headline_text(real) == (
        "missed (3 tests, 5 checks: 1 missed, 4 no baseline, 1 failed test not measured, "
        "1 test skipped)"
    )


def test_the_worst_verdict_leads(real: dict[str, Any]) -> None:
    kinds = ("pass", "no baseline", "inconclusive", "missed", "regressed", "invalid", "error")
    for number in range(1, len(kinds) + 1):
        assert headline_text(of_verdicts(real, *kinds[:number])).startswith(
            f"{kinds[number - 1]} ("
        )


@pytest.mark.parametrize("kind", ["inconclusive", "invalid", "no baseline", "workload changed"])
def test_a_pass_is_not_claimed_over_what_is_open(real: dict[str, Any], kind: str) -> None:
    data = of_verdicts(real, "pass", "pass", kind)
    assert headline_text(data) == f"{kind} (3 tests, 3 checks: 1 {kind}, 2 pass)"


def test_a_test_without_a_verdict_is_no_pass(real: dict[str, Any]) -> None:
    data = of_verdicts(real, "pass", None)
    assert headline_text(data) == "not judged (2 tests, 1 check: 1 pass, 1 test not judged)"


def test_a_test_that_failed_before_it_was_measured_is_no_pass(real: dict[str, Any]) -> None:
    data = of_verdicts(real, "pass")
    data["unmeasured"] = [
        {"nodeid": "t.py::t", "outcome": "failed", "reason": "x", "location": None}
    ]
    assert (
        headline_text(data) == "not measured (1 test, 1 check: 1 pass, 1 failed test not measured)"
    )
    data["tests"] += of_verdicts(real, "missed")["tests"]
    assert headline_text(data).startswith("missed (")
    data["tests"] = []
    assert headline_text(data) == "not measured (0 tests: 1 failed test not measured)"


def test_a_tests_own_verdict_counts(real: dict[str, Any]) -> None:
    """It counts whatever the metrics say: the file may be edited or incomplete."""
    data = variant(real, case(real, "t.py::t", check("pass"), verdict="regressed"))
    assert headline_text(data).startswith("regressed (")


def test_two_metrics_of_one_quantity_are_one_check(real: dict[str, Any]) -> None:
    rate = check("regressed", name="tokens_per_sec", unit="tok/s", direction="higher")
    per_token = check("pass", name="time_per_output_token")
    data = variant(real, case(real, "t.py::t", rate, per_token, check("pass")))
    assert headline_text(data) == "regressed (1 test, 2 checks: 1 regressed, 1 pass)"


def test_quality_is_judged_beside_speed(real: dict[str, Any]) -> None:
    quality = {"checks": [check("missed", name="kl", unit="nats")], "figures": None}
    data = variant(real, case(real, "t.py::t", check("pass"), quality=quality))
    assert headline_text(data) == "missed (1 test, 2 checks: 1 missed, 1 pass)"


def test_an_outranked_verdict_is_not_the_headline(real: dict[str, Any]) -> None:
    both = check("regressed", reasons=[reason("regressed"), reason("missed", "target")])
    assert headline_text(variant(real, case(real, "t.py::t", both))).startswith(
        "regressed (1 test, 1 check"
    )


def test_a_test_that_only_the_base_has_is_counted(real: dict[str, Any]) -> None:
    data = comparison(of_verdicts(real, "pass"), removed=["t.py::gone"])
    assert headline_text(data) == "pass (1 test, 1 check: 1 pass, 1 test removed)"


def test_what_was_not_compared_is_no_pass(real: dict[str, Any]) -> None:
    why = "1 test has missing or invalid samples"
    assert headline_text(comparison(of_verdicts(real, "pass"), why_not=why)).startswith(
        "not compared ("
    )
    assert headline_text(comparison(of_verdicts(real, "missed"), why_not=why)).startswith(
        "missed ("
    )
