"""Percentiles and the stall rate catch slow minorities that the median does not show."""

from __future__ import annotations

import pytest
from plugin_projects import APP, all_output, app_config

AGAINST = ("--llmperf-against-config", "other.yaml")

#: ``slow`` takes half as long again in every fifth answer to a prompt, warm-ups included.
MINORITY = """
import collections, time

calls = collections.Counter()

def answer(prompt, max_tokens=26, seconds=0.002):
    for number in range(26):
        time.sleep(seconds)
        yield "word "

def slow(prompt, max_tokens=26):
    calls[prompt] += 1
    yield from answer(prompt, max_tokens, 0.003 if calls[prompt] % 5 == 0 else 0.002)
"""


@pytest.fixture
def minority(project, quiet_machine):
    """A project whose configuration slows down a fifth of the replays."""
    project.pytester.makepyfile(toy=MINORITY)
    project.configure(app_config("toy:slow").replace("iterations: 3", "iterations: 5"))
    project.configure(APP, "other.yaml")
    return project


def asking(project, marker: str) -> None:
    """Write a test with this marker."""
    project.write(
        test_it=f"""
        @pytest.mark.{marker}
        def test_x(llm_engine):
            llm_engine.generate("a", max_tokens=26)
        """
    )


def test_a_slow_fifth_shows_in_a_high_percentile_and_the_stall_rate_not_in_the_median(minority):
    minority.write(
        test_it="""
        @pytest.mark.inter_token(percentile=95, tolerance="10%")
        def test_percentile(llm_engine):
            llm_engine.generate("a", max_tokens=26)

        @pytest.mark.stall_rate
        def test_stalls(llm_engine):
            llm_engine.generate("b", max_tokens=26)

        @pytest.mark.end_to_end(tolerance="20%")
        def test_median(llm_engine):
            llm_engine.generate("c", max_tokens=26)
        """
    )
    minority.perf(*AGAINST)
    assert minority.verdicts() == {
        "test_percentile": "regressed",
        "test_stalls": "regressed",
        "test_median": "pass",
    }


def test_a_stall_rate_above_its_limit_is_missed(minority):
    asking(minority, "stall_rate(max='2%')")
    minority.perf("--llmperf-set", "perf.max_processes=16")
    assert minority.metric("stall_rate")["verdict"] == "missed"


def test_a_stall_rate_without_a_limit_has_nothing_to_be_compared_with(minority):
    asking(minority, "stall_rate")
    assert minority.perf().ret == 0
    assert minority.verdicts() == {"test_x": "no baseline"}


def test_a_percentile_has_a_limit_of_its_own_beside_the_median_s(minority):
    minority.configure(APP)
    high = "inter_token(max='9s', percentile=90)"
    asking(minority, f"inter_token(max='5s')\n        @pytest.mark.{high}")
    minority.perf("--llmperf-set", "perf.processes=3")
    (test,) = minority.session()["tests"]
    limits = {m["name"]: m["limit"] for m in test["metrics"] if m["gated"]}
    assert limits == {"inter_token": 5, "inter_token_p90": 9}


def test_a_percentile_of_too_few_values_is_refused_with_numbers(minority):
    asking(minority, "first_token(percentile=95)")
    result = minority.perf()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert minority.verdicts() == {"test_x": "error"}
    said = all_output(result)
    assert "needs at least 8 groups of 100 values" in said
    assert "a process of this workload has 5, and at most 12 processes are measured" in said
    assert "perf.max_processes" in said


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ("inter_token(percentile=101)", "percentile: expected a number between 50 and 100*got 101"),
        ("inter_token(percentile='95')", "percentile: expected a number*got '95'"),
        ("first_token(percentile=True)", "percentile: expected a number*got True"),
        ("first_token(percentile=50)", "percentile: expected a number*got 50"),
        ("first_token(percentile=99.999)", "percentile: *at most two decimals, got 99.999"),
        ("end_to_end(percentile=95)", "has an unknown argument 'percentile'*"),
        (
            "perf_metric('inter_token_p95', percentile=90)",
            "has percentile= and names *",
        ),
        ("inter_token(percentile=95, min='1s')", "has min=*"),
        ("stall_rate(percentile=95)", "has an unknown argument 'percentile'*"),
        ("stall_rate(min='5%')", "has min=*limit is max="),
        ("stall_rate(max=5)", "max: expected a percentage*got 5"),
        ("stall_rate(max='1s')", "max: expected a percentage*"),
    ],
)
def test_a_wrong_argument_is_refused_with_the_test_s_name(project, marker, says):
    asking(project, marker)
    stderr = project.check_refused()
    stderr.fnmatch_lines([f"ERROR: llmperf: test_it.py::test_x: marker * {says}"])
