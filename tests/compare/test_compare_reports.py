"""Reports of ``--llmperf-json`` as a side of a comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_outputs import Output
from compare_sessions import CHAT, KEY, LONG, Project, metrics

from pytest_llmperf.gate.check import Check, Evidence, Pairs
from pytest_llmperf.gate.combine import judge_session
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.report.json_report import write_json
from pytest_llmperf.session.result import CheckResult, SessionResult, TestResult

Compare = Callable[..., Output]


def report(
    name: str,
    slower: float = 1.0,
    *,
    tolerance: float = 0.05,
    judged: tuple[str, ...] = ("tokens_per_sec", "first_token"),
    processes: int = 3,
    stall_rate: bool = False,
    against: bool = False,
    pairs: int | None = None,
    offset: float | None = None,
    change: Callable[[dict[str, Any]], None] | None = None,
    **evidence: Any,
) -> str:
    """Write the report of a session with made-up samples, and return the file's name."""
    items = []
    # No two sessions measure the same to the last digit.
    noise = ord(name[0]) * 1e-6 if offset is None else offset
    for metric, record in metrics(slower, noise).items():
        samples = record.samples[:processes]
        items.append(
            Evidence(
                CHAT,
                Check(get_metric(metric), 1.0, tolerance, gated=metric in judged),
                samples,
                planned_processes=3,
                pairs=Pairs(samples, samples, "other.yaml") if against else None,
                ended=True,
                **evidence,
            )
        )
    if stall_rate:
        rows = ((0.0, 1.0, 0.0),) * 3
        items.append(Evidence(CHAT, Check(get_metric("stall_rate"), None, 0.2), rows, 3))
    rows = tuple(CheckResult(e, v) for e, v in zip(items, judge_session(items), strict=True))
    view = SessionResult(
        machine_key=KEY,
        model="smollm2-135m Q4_1",
        engine="llama_cpp 0.3.36",
        processes=3,
        iterations=3,
        seed=7,
        tests=(
            TestResult(
                CHAT,
                rows,
                "1 request, 38 tokens in, 64 out",
                "w1",
                processes=processes,
                pairs=processes if pairs is None and against else pairs or 0,
            ),
        ),
    )
    path = Path(name)
    write_json(path, view)
    if change is not None:
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))
    return name


def test_two_reports(project: Project, llmperf_compare: Compare) -> None:
    base = report("a.json")
    assert llmperf_compare(base, report("b.json", 1.6)).status == 1
    status, out, _ = llmperf_compare(base, report("c.json", 0.7))
    assert (status, "2 improved" in out) == (0, True)


def test_a_report_against_a_commit(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    status, out, _ = llmperf_compare("HEAD", report("b.json", 1.10))
    assert status == 1
    assert "compared by name" in " ".join(out.split())


def test_a_report_of_a_recorded_session_is_that_session(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    third = 0.3337123456789  # has more digits than a record keeps
    project.record(10, metrics=metrics(third))
    status, _, err = llmperf_compare("perf_baselines", report("b.json", third, offset=0.0))
    assert status == 2
    assert "has no session that perf_baselines lacks, so there is nothing to judge" in err


def test_a_store_without_its_reported_session_is_judged(
    project: Project, llmperf_compare: Compare
) -> None:
    project.record(1)
    project.record(2, metrics=metrics(1.0))
    out = llmperf_compare(report("a.json", offset=0.0), "perf_baselines").out
    assert "the only session of its own" in " ".join(out.split())


def test_a_report_judges_what_its_session_did(project: Project, llmperf_compare: Compare) -> None:
    base = report("a.json", judged=("first_token",))
    status, out, _ = llmperf_compare(base, report("b.json", 1.6, judged=("first_token",)))
    assert status == 1
    assert "1 check: 1 regressed" in out


def test_a_reports_tolerance_for_pairs_is_not_asked_of_sessions_measured_apart(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()

    def calibrate(data: dict[str, Any]) -> None:
        figure = {"tolerance": 0.02, "holds": 0.01, "seconds": 300, "calibration": "a.json"}
        for metric in data["tests"][0]["metrics"]:
            metric["calibrated"] = {**figure, "recorded": "2026-11-01T10:15:00Z"}

    judged = report("b.json", tolerance=0.02, change=calibrate)
    assert "tolerance 5%" in llmperf_compare("HEAD", judged).out
    assert "tolerance 2%" in llmperf_compare("HEAD", report("c.json", tolerance=0.02)).out


def test_a_reports_own_tolerance_counts(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    judged = report("b.json", 1.10, tolerance=0.3)
    assert llmperf_compare("HEAD", judged).status == 0
    assert llmperf_compare("HEAD", judged, "--tolerance", "5%").status == 1


def test_a_session_with_two_arms_stands_for_its_own_one(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    assert llmperf_compare("HEAD", report("b.json", 1.10, against=True)).status == 1


def test_a_report_of_an_unfit_machine_proves_nothing(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    status, out, _ = llmperf_compare("HEAD", report("b.json", invalid=("busy",)))
    assert (status, "2 invalid" in out) == (2, True)


def test_a_report_of_a_crash_proves_nothing(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    status, out, _ = llmperf_compare("HEAD", report("b.json", error="the engine\ncrashed"))
    assert (status, "the engine" in out) == (2, True)


def test_a_session_that_was_cut_short_proves_nothing(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    status, out, _ = llmperf_compare("HEAD", report("b.json", 3.0, processes=2))
    assert status == 2
    assert "2 of 3 processes were measured" in out


def test_a_session_without_enough_whole_pairs_proves_nothing(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    status, out, _ = llmperf_compare("HEAD", report("b.json", 3.0, against=True, pairs=1))
    assert status == 2
    assert "1 of 3 pairs were measured" in out


def test_a_stall_rate_is_not_compared(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    status, out, _ = llmperf_compare("HEAD", report("b.json", stall_rate=True))
    assert status == 0
    assert "its stall rate is not compared" in " ".join(out.split())


def test_a_report_of_another_machine_is_refused(project: Project, llmperf_compare: Compare) -> None:
    def elsewhere(data: dict[str, Any]) -> None:
        data["session"]["machine"] = "ryzen-8c_cpu"

    status, _, err = llmperf_compare(report("a.json"), report("b.json", change=elsewhere))
    assert status == 2
    assert f"machine: base {KEY}, candidate ryzen-8c_cpu" in err


def test_a_report_of_another_model_is_refused(project: Project, llmperf_compare: Compare) -> None:
    def other(data: dict[str, Any]) -> None:
        data["session"]["model"] = "smollm2-135m Q8_0"

    project.base()
    status, _, err = llmperf_compare("HEAD", report("b.json", change=other))
    assert status == 2
    assert "model: base smollm2-135m Q4_1, candidate smollm2-135m Q8_0" in err


def test_another_engine_is_listed(project: Project, llmperf_compare: Compare) -> None:
    def newer(data: dict[str, Any]) -> None:
        data["session"]["engine"] = "llama_cpp 0.4.0"

    out = llmperf_compare(report("a.json"), report("b.json", 1.1, change=newer)).out
    assert "differs from the base: engine: llama_cpp 0.3.36 → llama_cpp 0.4.0" in out


def test_a_comparison_is_a_report_again(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11)
    project.commit()
    llmperf_compare("HEAD~1", "HEAD", "--format", "json", "--output", "b.json")
    assert llmperf_compare("HEAD~1", "b.json").status == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.update(schema=99), "schema 99"),
        (lambda d: d.update(tests={}), "tests: expected a list"),
        (
            lambda d: d["session"].update(machine="../x"),
            "session.machine: expected a machine's key",
        ),
        (lambda d: d["session"].pop("seed"), "session.seed: missing"),
        (lambda d: d["tests"][0]["workload"].update(hash=""), "the hash of a workload"),
        (
            lambda d: d["tests"][0]["metrics"][0].update(samples=[[0]]),
            "a number from 1e-15",
        ),
        (lambda d: d["tests"][0]["metrics"][0].update(samples=[[]]), "at least one sample"),
        (lambda d: d["tests"][0]["metrics"][0].update(samples=[[1e999]]), "not a number"),
        (lambda d: d["tests"][0]["metrics"][0].update(gated="yes"), "gated: expected true"),
    ],
)
def test_a_report_of_another_shape_is_named(
    project: Project, llmperf_compare: Compare, change: Callable[[Any], None], told: str
) -> None:
    name = report("b.json", change=change)
    status, _, err = llmperf_compare(name, name)
    assert status == 2
    assert err.startswith(("llmperf: b.json: ", "llmperf: b.json:1: "))
    assert told in err


def test_an_unknown_metric_of_a_newer_version_is_passed_over(
    project: Project, llmperf_compare: Compare
) -> None:
    def newer(data: dict[str, Any]) -> None:
        first = data["tests"][0]["metrics"][0]
        data["tests"][0]["metrics"].append({**first, "name": "joules_per_token", "unit": "J"})

    project.base()
    status, out, _ = llmperf_compare("HEAD", report("b.json", change=newer))
    assert (status, "joules" in out) == (0, False)


def with_verdict(kind: str, metric: str = "tokens_per_sec") -> Callable[[dict[str, Any]], None]:
    """Make a report say that its own session gave one metric this verdict, against main."""
    text = f"7.1% slower [5.2% to 9.0%], {kind} against main"

    def change(data: dict[str, Any]) -> None:
        (test,) = data["tests"]
        known = {entry["name"]: entry for entry in test["metrics"]}
        if metric not in known:
            new = {**test["metrics"][0], "name": metric, "unit": "%", "samples": [], "limit": 0.2}
            test["metrics"].append(new)
            known[metric] = new
        known[metric].update(verdict=kind, explanation=text, change=0.071, gated=True)

    return change


@pytest.mark.parametrize(
    ("kind", "status", "title"),
    [
        ("regressed", 1, "regressed"),
        ("missed", 1, "missed"),
        ("invalid", 2, "invalid"),
        ("inconclusive", 0, "inconclusive"),
        # A verdict against its own baseline says nothing about another baseline.
        ("no baseline", 0, "pass"),
        ("improved", 0, "pass"),
    ],
)
def test_a_reports_own_verdict_is_not_weakened_by_judging_it_again(
    project: Project, llmperf_compare: Compare, kind: str, status: int, title: str
) -> None:
    project.base()
    judged = report("b.json", change=with_verdict(kind))
    result = llmperf_compare("HEAD", judged)
    assert result.status == status
    lasting = kind not in ("no baseline", "improved")
    assert ("7.1% slower" in result.out) is lasting
    marked = llmperf_compare("HEAD", judged, "--format", "markdown")
    assert (marked.status, marked.out.split(" (")[0]) == (status, f"### llmperf: {title}")
    assert ("7.1% slower" in marked.out) is lasting
    data = json.loads(llmperf_compare("HEAD", judged, "--format", "json").out)
    outcome = {"pass": "fine", "invalid": "not compared"}.get(title, title)
    assert data["compare"]["outcome"] == outcome
    assert data["tests"][0]["verdict"] == (kind if lasting else "pass")
    assert llmperf_compare("HEAD", judged, "--strict").status == (
        1 if kind == "inconclusive" else status
    )


@pytest.mark.parametrize("metric", ["stall_rate", "tokens_per_sec"])
def test_a_verdict_on_what_is_not_compared_is_shown_too(
    project: Project, llmperf_compare: Compare, metric: str
) -> None:
    """A metric that is never compared across sessions, and a test that the base lacks."""
    project.base(tests=(CHAT,) if metric == "stall_rate" else (LONG,))
    status, out, _ = llmperf_compare(
        "HEAD", report("b.json", change=with_verdict("regressed", metric))
    )
    assert status == 1
    assert "1 regressed" in out
    assert "verdict in its own session: regressed: 7.1% slower" in " ".join(out.split())


def test_what_the_bases_own_report_says_is_noted(
    project: Project, llmperf_compare: Compare
) -> None:
    base = report("a.json", change=with_verdict("regressed"))
    status, out, _ = llmperf_compare(base, report("b.json", 0.7))
    assert status == 0
    assert "a.json itself says: 1 regressed" in " ".join(out.split())


def test_what_a_counter_tells_is_no_stall_rate(project: Project, llmperf_compare: Compare) -> None:
    def never_busy(data: dict[str, Any]) -> None:
        rows = data["tests"][0]["metrics"]
        row = dict(rows[0], name="gpu_utilization", label="GPU busy", unit="%", gated=True)
        rows.append({**row, "samples": [[0.0, 0.0]] * 3})

    base, judged = (report(name, change=never_busy) for name in ("a.json", "b.json"))
    result = llmperf_compare(base, judged, "--format", "json")
    (test,) = json.loads(result.out)["tests"]
    (busy,) = [row for row in test["metrics"] if row["name"] == "gpu_utilization"]
    assert (busy["value"], busy["change"]) == (0.0, 0.0)
    assert not any("stall rate" in finding for finding in test["findings"])


def lose(outcome: str) -> Callable[[dict[str, Any]], None]:
    """Make a report say that the other test was not measured."""

    def change(data: dict[str, Any]) -> None:
        lost = {"nodeid": LONG, "outcome": outcome, "reason": "the answer | is 41"}
        data["unmeasured"] = [{**lost, "location": None}]

    return change


def add_long(data: dict[str, Any]) -> None:
    data["tests"].append({**data["tests"][0], "nodeid": LONG})


def test_a_test_whose_body_failed_is_no_comparison(
    project: Project, llmperf_compare: Compare
) -> None:
    base = report("a.json", change=add_long)
    judged = report("b.json", change=lose("failed"))
    status, out, _ = llmperf_compare(base, judged)
    assert status == 2
    words = " ".join(out.split())
    assert "1 failed test not measured" in words
    assert f"failed, not measured: {LONG}: the answer | is 41" in words
    assert "removed" not in words
    page = llmperf_compare(base, judged, "--format", "markdown").out
    assert page.startswith("### llmperf: not measured (1 test")
    assert "**Not compared:** 1 failed test not measured" in page
    assert "| **not measured** | <code>tests/perf/test_chat.py::test_long" in page
    assert "the answer &#124; is 41" in page
    data = json.loads(llmperf_compare(base, judged, "--format", "json").out)
    assert data["compare"]["why_not"] == f"1 failed test not measured: {LONG}"
    assert [test["nodeid"] for test in data["unmeasured"]] == [LONG]


def test_a_skipped_test_is_named_and_changes_nothing_else(
    project: Project, llmperf_compare: Compare
) -> None:
    base, without = report("a.json", change=add_long), report("c.json", change=lose("skipped"))
    status, out, _ = llmperf_compare(base, without)
    assert status == 0
    assert "1 test skipped" in out
    assert "removed" not in out
    # The failed test is the reason, even if the sides have no other test in common.
    (other := Path("f.json")).write_text(Path(base).read_text())
    data = json.loads(other.read_text())
    data["tests"] = data["tests"][1:]
    other.write_text(json.dumps(data))
    result = llmperf_compare("f.json", report("g.json", change=lose("failed")), "--format", "json")
    assert json.loads(result.out)["compare"]["why_not"] == f"1 failed test not measured: {LONG}"
    # A new test that fails does not void the comparison.
    status, out, _ = llmperf_compare(report("d.json"), report("e.json", change=lose("failed")))
    assert status == 0
    assert "1 failed test not measured" in " ".join(out.split())
