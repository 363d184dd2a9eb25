"""The text of a failing perf test."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace

import pytest
from report_sessions import SOURCE, compared, new_test, row, short_answer

from pytest_llmperf.gate.verdict import FailPolicy
from pytest_llmperf.report.failure import accept_command, failure_text, record_command
from pytest_llmperf.session.result import DiagnosedCause, TestResult

ONE_METRIC = """\
the machine was disturbed (busy_cores): the table below shows the cause

regressed: first token: 45.8% slower [33.2% to 59.5%], more than sessions differ (by chance \
once \
in N; at most once in N required); tolerance 5%, 1 stored session can decide: passes only from \
1.8% faster, regressed from 14.8% slower, 3 processes
    also inconclusive: 618 ms, must be at most 500 ms, not decided when \
measuring ended; evidence N:1; about 1 more process would decide
    measured 618 [589, 649] ms in 3 processes, 9 iterations
    baseline 424 ms in 1 session

the other metrics:
    tokens/s 84.9 [83.1, 86.8] tok/s, no change (inconclusive)
    prefill 200 [200, 200] tok/s, 50.0% slower (not gated)

what differs from the baseline besides speed:
    - llm.n_batch: 512, was 1024

the baseline's sessions:
    - perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json

found while measuring:
    - 2 stalls

to accept the new level:
    pytest -m perf 'tests/test_chat.py::test_short[gpu 12]' --llmperf-accept "why"\
"""


STRICT = FailPolicy(strict=True)


def single_metric_test(**fields: object) -> TestResult:
    """Return a test of one metric."""
    return TestResult("t.py::t", (row("end_to_end", 1.0, 1.0, 1.0, **fields),))  # type: ignore[arg-type]


def test_the_whole_text() -> None:
    test = TestResult(
        "tests/test_chat.py::test_short[gpu 12]",
        (
            row("tokens_per_sec", 84.9, 84.1, 85.6, limit=60.0, baseline=[84.9]),
            row("prefill_tokens_per_sec", 200, 200, 200, baseline=[300], gated=False),
            row("first_token", 0.618, 0.6075, 0.6315, limit=0.5, baseline=[0.424]),
        ),
        findings=("2 stalls",),
        differences=("llm.n_batch: 512, was 1024",),
    )
    whole = failure_text(test, disturbed=("busy_cores",))
    # The gate has its own tests of the odds.
    text = re.sub(r"(once in|evidence) [\d,]*\d", r"\1 N", whole)
    assert text == ONE_METRIC


def test_a_test_that_does_not_fail_has_no_text() -> None:
    assert failure_text(short_answer()) == ""


def test_no_baseline_fails_only_where_one_is_required() -> None:
    assert failure_text(new_test()) == ""
    text = failure_text(new_test(), policy=FailPolicy(require_baseline=True))
    assert text.startswith("no baseline: tokens/s: no session recorded")
    assert record_command(new_test().nodeid) in text


def test_it_names_the_baseline() -> None:
    assert SOURCE in failure_text(short_answer(1.3))


def test_baseline_sessions_are_listed_once_for_all_metrics() -> None:
    assert failure_text(short_answer(1.3)).count(SOURCE) == 1


def test_a_missed_target_is_not_accepted_by_recording() -> None:
    missed = TestResult("t.py::t", (row("end_to_end", *(1.0,) * 6, limit=0.5),))
    text = failure_text(missed)
    assert text.startswith("missed: end to end: target missed by a factor of 2: ")
    assert "--llmperf-record" not in text
    assert "recording does not change a target" in text


def test_an_invalid_machine_asks_for_another_run_and_offers_no_new_level() -> None:
    text = failure_text(single_metric_test(invalid=("the machine swapped (swapping)",)))
    assert text.startswith("invalid: end to end: the machine swapped (swapping)")
    assert "run it again on a quiet machine:\n    pytest -m perf t.py::t" in text
    assert "--llmperf-record" not in text


def test_what_the_session_lists_of_the_machine_an_invalid_test_names_only() -> None:
    busy = single_metric_test(
        invalid=("process 4242 (stress) used 2 cores (busy_cores) (and 1 more like it)",)
    )
    text = failure_text(busy, disturbed=("stolen_cores", "busy_cores"))
    lead = "invalid: end to end: the machine was disturbed (busy_cores): the table below shows"
    assert text.startswith(lead)
    assert "stress" not in text
    assert "stolen_cores" not in text
    # A replay that is void for another reason states the reason itself.
    short = single_metric_test(invalid=("generation cut short: 2 of 4 output tokens (cut_short)",))
    assert "cut short: 2 of 4" in failure_text(short, disturbed=("busy_cores",))


def test_what_is_inconclusive_fails_a_strict_session_only() -> None:
    assert failure_text(single_metric_test(baseline=[1.0])) == ""
    assert failure_text(single_metric_test(baseline=[1.0]), policy=STRICT).startswith(
        "inconclusive: end to end: "
    )


def test_an_inconclusive_test_asks_for_a_larger_budget() -> None:
    text = failure_text(
        single_metric_test(planned_processes=5, budget_reached=True, budget_seconds=90.0),
        policy=STRICT,
    )
    assert "3 of at least 5 processes measured within the 1 min 30 s budget" in text
    assert "to decide it, raise perf.budget and run it again:\n    pytest -m perf t.py::t" in text


def test_undecided_pairs_ask_for_more_of_them_with_a_command_that_allows_them() -> None:
    undecided = row("end_to_end", 1.03, 1.04, 1.02, base=[1.0, 1.0, 1.0], exhausted=True)
    text = failure_text(TestResult("t.py::t", (undecided,)), policy=STRICT)
    proof = undecided.verdict.proof if undecided.verdict else None
    assert proof is not None
    assert proof.more is not None
    enough = round((3 + proof.more) * 1.5)
    assert "to decide it, raise perf.max_pairs and run it again:" in text
    assert f"pytest -m perf t.py::t --llmperf-set perf.max_pairs={enough}" in text


def test_a_budget_that_ended_it_is_named_and_left_to_the_user_to_raise() -> None:
    undecided = row("end_to_end", 1.03, 1.04, 1.02, base=[1.0, 1.0, 1.0], budget_reached=True)
    text = failure_text(TestResult("t.py::t", (undecided,)), policy=STRICT)
    assert text.endswith("raise perf.budget and run it again:\n    pytest -m perf t.py::t")


def test_a_suspect_is_decided_by_more_sessions_or_by_a_second_arm() -> None:
    text = failure_text(single_metric_test(baseline=[1.0]), policy=STRICT)
    assert "stored sessions alone don't decide it" in text
    assert "\n    pytest -m perf t.py::t --llmperf-against-config OTHER.yaml" in text
    assert "perf.budget" not in text


def test_a_regression_against_a_second_arm_names_it_and_what_differs() -> None:
    test = compared(1.1, differences=("llm.flash_attn: base false, candidate true",))
    text = failure_text(test)
    assert "    base 85.0 [84.8, 85.2] tok/s in other.yaml\n" in text
    assert "what differs from other.yaml besides speed:\n    - llm.flash_attn: base false" in text
    assert text.endswith("if they are not worth it, keep other.yaml")


def test_a_regression_against_a_second_arm_offers_no_level_to_accept() -> None:
    text = failure_text(compared(1.1))
    assert "--llmperf-accept" not in text
    assert "0 sessions" not in text
    assert "baseline" not in text


def test_a_difference_between_equal_arms_is_questioned() -> None:
    text = failure_text(compared(1.1))
    assert "both sides have the same settings: look for another difference from other.yaml" in text


def test_a_percentile_counts_groups_of_processes() -> None:
    slow = row("inter_token_p95", *(0.02,) * 12, limit=0.01)
    text = failure_text(TestResult("t.py::t", (slow,)))
    assert "measured 20.0 [20.0, 20.0] ms in 12 groups of processes\n" in text


CAUSES = (
    DiagnosedCause(
        "cpu_only_build", "built without GPU code", "0 of 31 layers", "CMAKE_ARGS=... pip"
    ),
    DiagnosedCause("flash_attention_off", "flash off", "off", "flash_attn: true", certain=False),
    DiagnosedCause("batch_small", "small batches", "2 pieces", "n_ubatch: 512", certain=False),
)


def test_a_test_that_is_too_slow_says_why_it_may_be_so() -> None:
    slow = row("end_to_end", *(1.0,) * 6, limit=0.5)
    command = "llmperf doctor --prompt-tokens 512 --max-tokens 64"
    test = TestResult("t.py::t", (slow,), diagnosis=CAUSES, doctor_command=command)
    assert (
        "why it may be slow:\n"
        "    - built without GPU code: 0 of 31 layers\n"
        "      change: CMAKE_ARGS=... pip\n"
        "worth trying: flash_attn: true; n_ubatch: 512\n"
        "to measure each change:\n"
        f"    {command}\n"
    ) in failure_text(test)


def test_what_is_wrong_is_said_once_with_the_change() -> None:
    slow = row("end_to_end", *(1.0,) * 6, limit=0.5)
    test = TestResult("t.py::t", (slow,), causes=("0 of 31 layers", "off"), diagnosis=CAUSES)
    text = failure_text(test)
    assert text.count("0 of 31 layers") == 1
    assert "likely caused by the configuration or the build:\n    - off\n" in text


def test_of_many_causes_the_first_are_told() -> None:
    slow = row("end_to_end", *(1.0,) * 6, limit=0.5)
    test = TestResult("t.py::t", (slow,), diagnosis=CAUSES[:1] * 5)
    text = failure_text(test)
    assert text.count("change: CMAKE_ARGS") == 3
    assert "    - and 2 more causes\n" in text
    # The doctor does not try the changes for a server's causes.
    assert "to measure" not in text


def test_without_causes_nothing_is_said_of_them() -> None:
    text = failure_text(TestResult("t.py::t", (row("end_to_end", *(1.0,) * 6, limit=0.5),)))
    assert "slow:" not in text
    assert "doctor" not in text


def test_an_error_keeps_all_its_lines() -> None:
    text = failure_text(
        single_metric_test(error="the engine died\n  llama_decode failed\n  out of memory")
    )
    assert "error: end to end: the engine died\n" in text
    assert "      llama_decode failed\n" in text
    assert "run it again" in text


def test_the_command_starts_as_the_user_started_pytest() -> None:
    assert '    python -m pytest -m perf t.py::t --llmperf-accept "why"' in failure_text(
        single_metric_test(baseline=[0.5] * 5), command="python -m pytest -m perf"
    )


@pytest.mark.parametrize(
    "nodeid", ["t.py::t[a b]", "t.py::t['$(id)']", 't.py::t["`x`"]', "t.py::t[a;b&c]"]
)
def test_the_command_survives_a_shell(nodeid: str) -> None:
    assert shlex.split(accept_command(nodeid))[3] == nodeid


def test_the_command_survives_bash_even_with_control_characters() -> None:
    nodeid = "t.py::t['a\x1b\n\\é]"
    word = record_command(nodeid).removeprefix("pytest -m perf ").removesuffix(" --llmperf-record")
    assert word.isprintable()
    echoed = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert echoed.stdout.decode() == nodeid


def test_hostile_text_can_not_reach_the_terminal() -> None:
    test = replace(short_answer(1.3), findings=("\x1b[2J",), differences=("\u202e",))
    assert "\x1b" not in failure_text(test)
    assert "\u202e" not in failure_text(test)


def broken() -> TestResult:
    """Return a test of three metrics that could not be collected at the base."""
    log = "base (HEAD~1): could not be collected there:\nin test_x.py\nE   ImportError: nowhere"
    metrics = ("tokens_per_sec", "first_token", "end_to_end")
    rows = tuple(row(metric, error=log) for metric in metrics)
    return TestResult("t.py::t", rows, differences=("llm.n_batch: base 64, candidate 512",))


def test_what_all_metrics_share_the_log_of_is_told_once() -> None:
    text = failure_text(broken())
    assert text.count("E   ImportError: nowhere") == 1
    assert text.startswith("error: tokens/s, first token and end to end: base (HEAD~1): could not")


def test_metrics_that_fail_for_reasons_of_their_own_are_told_one_by_one() -> None:
    text = failure_text(short_answer(1.5))
    assert text.count("\nregressed: ") == 2


def test_what_differs_is_said_of_the_base_also_where_this_test_was_not_compared() -> None:
    text = failure_text(broken(), against="HEAD~1 (628fedd01234)")
    assert "what differs from HEAD~1 (628fedd01234) besides speed:" in text


def test_running_again_compares_again_and_recording_does_not() -> None:
    again = "pytest -m perf --llmperf-against HEAD~1"
    text = failure_text(broken(), repeat_command=again)
    assert text.endswith(f"run it again:\n    {again} t.py::t")
    text = failure_text(short_answer(1.5), repeat_command=again)
    assert "--llmperf-accept" in text
    assert "--llmperf-against HEAD~1" not in text
