"""Verdicts on the stored sessions of two commits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_outputs import Output
from compare_sessions import CHAT, LONG, Project, metrics

from pytest_llmperf.baselines.decisions import Decision
from pytest_llmperf.baselines.record import MetricRecord
from pytest_llmperf.baselines.samples import BaselineSamples
from pytest_llmperf.baselines.tolerances import CalibratedTolerance
from pytest_llmperf.gate.check import Check, Evidence
from pytest_llmperf.gate.combine import judge_session
from pytest_llmperf.metrics import get_metric

Compare = Callable[..., Output]


def test_a_slower_commit_is_regressed(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11, 1.10)
    project.commit()
    status, out, err = llmperf_compare("HEAD~1", "HEAD")
    assert (status, err) == (1, "")
    assert "regressed  tokens/s     73.0 [72.7, 73.4] tok/s  9.6% slower" in out
    assert "baseline 80.0 tok/s over 10 sessions" in out
    assert "1 test, 3 checks: 3 regressed" in out


def test_an_unchanged_commit_passes(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11)
    project.commit()
    status, out, err = llmperf_compare("HEAD~1", "HEAD")
    assert (status, err) == (0, "")
    assert "1 test, 3 checks: 3 pass" in out


def test_a_faster_commit_is_improved(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11, 0.85)
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 0
    assert "3 improved" in out


def test_the_verdicts_are_the_gates(project: Project, llmperf_compare: Compare) -> None:
    project.base(5)
    project.record(11, 1.07)
    project.commit()
    llmperf_compare("HEAD~1", "HEAD", "--format", "json", "--output", "out.json")
    reported = json.loads(Path("out.json").read_text())["tests"][0]["metrics"]

    stored = [session.record.tests[CHAT] for session in project.store.read_machine("xeon-2c_cpu")]
    names = [metric["name"] for metric in reported]
    evidence = [
        Evidence(
            CHAT,
            Check(get_metric(name), None, 0.05, gated=name != "prefill_tokens_per_sec"),
            stored[-1].metrics[name].samples,
            planned_processes=3,
            baseline=BaselineSamples("ok", tuple(s.metrics[name].samples for s in stored[:-1])),
            ended=True,
        )
        for name in names
    ]
    for metric, verdict in zip(reported, judge_session(evidence), strict=True):
        assert metric["verdict"] == (verdict.kind.value if verdict else None)
        if verdict is not None and verdict.proof is not None:
            assert metric["proof"]["bound"] == pytest.approx(verdict.proof.bound)
            assert metric["proof"]["log_threshold"] == pytest.approx(verdict.proof.log_threshold)


def test_what_is_inconclusive_passes_and_says_so(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base(1)
    project.record(11)
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 0
    assert "1 test, 3 checks: 3 inconclusive" in out
    assert "passes; with --strict it fails" in " ".join(out.split())


def test_strict_fails_what_is_inconclusive(project: Project, llmperf_compare: Compare) -> None:
    project.base(1)
    project.record(11)
    project.commit()
    status, out, _ = llmperf_compare("--strict", "HEAD~1", "HEAD")
    assert status == 1
    assert "fails, as --strict asks" in " ".join(out.split())


def test_undecided_commits_are_told_how_to_be_decided(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base(1)
    project.record(11)
    project.commit()
    out = llmperf_compare("main~1", "main").out
    assert "    pytest -m perf --llmperf-against 'main~1'\n" in out


def test_of_several_sessions_the_newest_is_judged(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    project.record(11, 1.5)
    project.record(12)
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 0
    flat = " ".join(out.split())
    assert "the newest of 2 sessions of its own" in flat
    assert "20261112T120000Z_000000000000.json" in flat


def test_only_the_newest_ten_sessions_of_the_base_judge(
    project: Project, llmperf_compare: Compare
) -> None:
    for day in range(1, 6):
        project.record(day, 2.0)
    for day in range(6, 16):
        project.record(day)
    project.commit()
    project.record(16)
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert (status, "3 pass" in out) == (0, True)


def test_sessions_before_an_accepted_level_do_not_judge(
    project: Project, llmperf_compare: Compare
) -> None:
    for day in range(1, 6):
        project.record(day, 2.0)
    for day in range(6, 10):
        path = project.record(day)
        if day == 6:
            decision = Decision("accept", "2026-11-30T00:00:00Z", path.name, None, "why")
            project.store.write_decision("xeon-2c_cpu", decision)
    project.commit()
    project.record(16, 1.2)
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 1
    assert "4 stored sessions can decide" in out


def test_a_changed_workload_is_shown_and_not_judged(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base(tests=(CHAT, LONG))
    project.record(11, 3.0, tests=(CHAT,), workload="w2", summary="2 requests, 76 in, 128 out")
    project.record(12, tests=(LONG,))
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 0
    assert "3 pass, " not in out
    assert "3 workload changed" in out
    lines = out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("workload changed  tokens/s"))
    row = " ".join(lines[at : at + 2])
    assert "26.8 [26.6, 26.9] tok/s" in row
    assert "baseline 80.0 tok/s over 10 sessions" in row
    assert "%" not in row
    assert "the baseline measured 1 request, 38 tokens in, 64 out" in " ".join(out.split())


def test_of_another_workload_only_the_accepted_level_is_shown(
    project: Project, llmperf_compare: Compare
) -> None:
    project.record(1, 2.0)
    accepted = project.record(2)
    decision = Decision("accept", "2026-11-30T00:00:00Z", accepted.name, None, "why")
    project.store.write_decision("xeon-2c_cpu", decision)
    project.commit()
    project.record(11, workload="w2")
    project.commit()
    assert "over 1 session" in llmperf_compare("HEAD~1", "HEAD").out


def test_where_every_workload_changed_nothing_is_compared(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    project.record(11, workload="w2")
    project.commit()
    status, out, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert "3 workload changed" in out
    assert err == "llmperf: no check could be compared: workload changed\n"


def test_an_unfit_session_gives_way_to_an_older_one(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    project.record(11)
    project.record(12, 3.0, invalid=("another process used 1.9 of 2 cores",))
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 0
    assert "3 pass" in out
    assert "1 other session of HEAD" in " ".join(out.split())


def test_only_unfit_sessions_prove_nothing(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11, 3.0, invalid=("another process used 1.9 of 2 cores",))
    project.commit()
    status, out, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert "3 invalid" in out
    assert "another process used 1.9 of 2 cores" in " ".join(out.split())
    assert err == f"llmperf: 1 test has missing or invalid samples: {CHAT}\n"


def test_a_test_that_could_not_be_measured_is_not_passed_over(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base(tests=(CHAT, LONG))
    project.record(11, tests=(CHAT,))
    project.record(11, tests=(LONG,), metrics={}, invalid=("the engine crashed",))
    project.commit()
    status, out, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert "the engine crashed" in out
    assert LONG in err


def test_a_regression_outranks_what_proves_nothing(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base(tests=(CHAT, LONG))
    project.record(11, 1.5, tests=(CHAT,))
    project.record(11, tests=(LONG,), invalid=("busy",))
    project.commit()
    assert llmperf_compare("HEAD~1", "HEAD").status == 1


def test_unfit_sessions_of_the_base_do_not_judge(
    project: Project, llmperf_compare: Compare
) -> None:
    project.record(1, 2.0, invalid=("busy",))
    for day in range(2, 8):
        project.record(day)
    project.commit()
    project.record(11, 1.2)
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 1
    assert "6 stored sessions can decide" in out
    assert "1 stored session left out: the machine was disturbed" in out


def test_tests_of_one_side_are_listed(project: Project, llmperf_compare: Compare) -> None:
    old = "tests/perf/test_old.py::test_old"
    project.base(tests=(CHAT, old))
    project.record(11, tests=(CHAT, LONG))
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 0
    lines = out.splitlines()
    assert lines[lines.index(f"  {LONG}") - 1].startswith("added, only in HEAD (")
    assert lines[lines.index(f"  {old}") - 1].startswith("removed, only in HEAD~1 (")
    assert "1 test, 3 checks" in out


def test_a_test_that_was_gone_before_the_base_is_not_removed(
    project: Project, llmperf_compare: Compare
) -> None:
    project.record(1, tests=(CHAT, LONG))
    project.base(tests=(CHAT,))
    project.record(11, tests=(CHAT,))
    project.commit()
    assert LONG not in llmperf_compare("HEAD~1", "HEAD").out


def test_without_a_test_in_common_nothing_is_compared(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base(tests=(CHAT,))
    project.record(11, tests=(LONG,))
    project.commit()
    status, out, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert LONG in out
    assert "have no test in common" in err


def test_settings_that_differ_are_listed(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11, config={"n_ctx": 4096})
    project.commit()
    assert "differs from the base: llm.n_ctx: 2048 → 4096" in llmperf_compare("HEAD~1", "HEAD").out


def test_the_configuration_here_sets_the_tolerance(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    project.record(11, 1.10)
    project.commit()
    Path("config.yaml").write_text("perf: {tolerance: 25%}\n")
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert (status, "tolerance 25%" in out) == (0, True)


@pytest.mark.parametrize(("given", "tolerance"), [(0.25, "25%"), (0.02, "5%"), (None, "5%")])
def test_with_auto_the_candidates_own_calibrated_tolerance_counts(
    project: Project, llmperf_compare: Compare, given: float | None, tolerance: str
) -> None:
    project.base()
    tolerances = [] if given is None else [CalibratedTolerance(given, given, 300.0, "a.json", "x")]
    names = ("tokens_per_sec", "first_token", "end_to_end")
    project.record(11, tolerances={name: t for t in tolerances for name in names})
    project.commit()
    Path("config.yaml").write_text("perf: {tolerance: auto}\n")
    assert f"tolerance {tolerance}" in llmperf_compare("HEAD~1", "HEAD").out
    Path("config.yaml").write_text("perf: {tolerance: 7%}\n")
    assert "tolerance 7%" in llmperf_compare("HEAD~1", "HEAD").out


def test_a_tolerance_given_wins(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11, 1.10)
    project.commit()
    Path("config.yaml").write_text("perf: {tolerance: 25%}\n")
    assert llmperf_compare("HEAD~1", "HEAD", "--tolerance", "5%").status == 1


def test_limits_are_not_judged(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11)
    project.commit()
    Path("config.yaml").write_text("perf: {targets: {tokens_per_sec: 1000}}\n")
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 0
    assert "missed" not in out


def test_a_metric_with_a_target_is_judged(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11)
    project.commit()
    Path("config.yaml").write_text("perf: {targets: {prefill_tokens_per_sec: 1}}\n")
    assert "4 checks: 4 pass" in llmperf_compare("HEAD~1", "HEAD").out


def test_named_metrics_are_judged_alone(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11, metrics={**metrics(1.0), "tokens_per_sec": metrics(2.0)["tokens_per_sec"]})
    project.commit()
    assert llmperf_compare("HEAD~1", "HEAD").status == 1
    status, out, _ = llmperf_compare("HEAD~1", "HEAD", "--metric", "first_token")
    assert status == 0
    assert "1 check: 1 pass" in out


@pytest.mark.parametrize("name", ["tokens_per_second", "stall_rate"])
def test_a_metric_that_cannot_be_judged_is_refused(
    project: Project, llmperf_compare: Compare, name: str
) -> None:
    assert llmperf_compare("a", "b", "--metric", name).status == 2


def test_a_recorded_percentile_is_judged(project: Project, llmperf_compare: Compare) -> None:
    def with_tail(slower: float) -> dict[str, MetricRecord]:
        tail = MetricRecord("s", tuple((0.02 * slower,) for _ in range(8)))
        return {**metrics(1.0), "inter_token_p95": tail}

    project.base(metrics=with_tail(1.0))
    project.record(11, metrics=with_tail(1.5))
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 1
    assert "regressed  inter-token p95" in out


def test_a_level_accepted_when_recorded_is_said(project: Project, llmperf_compare: Compare) -> None:
    project.base()
    project.record(11, 1.5, accepted="a better sampler")
    project.commit()
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 1
    assert "this level was accepted when it was recorded: a better sampler" in out
