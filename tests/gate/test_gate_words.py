"""The phrases that explanations share."""

from __future__ import annotations

import math

import pytest
from gate_evidence import evidence, paired

from pytest_llmperf.gate.words import (
    at_most,
    chance_words,
    change_words,
    count,
    effect_words,
    evidence_words,
    interval_words,
    more_words,
    needed_words,
    sample_facts_words,
    sensitivity_words,
    undecided,
)
from pytest_llmperf.metrics import Metric, get_metric

TIME: Metric = get_metric("end_to_end")


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.4, "0.4:1"),
        (1.0, "1:1"),
        (20.0, "20:1"),
        (6034.0, "6,030:1"),
        (2.15e7, "21.5 million:1"),
        (1e10, "over a billion:1"),
    ],
)
def test_evidence_is_told_as_odds(ratio: float, text: str) -> None:
    assert evidence_words(math.log(ratio)) == f"evidence {text}"


def test_what_is_asked_for_says_for_what() -> None:
    assert needed_words(math.log(300), "to call it slower") == "300:1 needed to call it slower"


def test_a_p_value_is_told_as_one_in_so_many() -> None:
    assert (
        chance_words(math.log(4321), math.log(300))
        == "by chance once in 4,320; at most once in 300 required"
    )


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-0.001, 0.11, "[0.1% faster to 11.0% slower]"),
        (0.012, 0.034, "[1.2% to 3.4% slower]"),
        (-0.034, -0.012, "[1.2% to 3.4% faster]"),
        (0.0, 0.02, "[no change to 2.0% slower]"),
        (-0.02, 0.0001, "[2.0% faster to no change]"),
        (-0.0001, 0.0001, "[no change]"),
        (-0.5, math.inf, "[50.0% faster to unknown]"),
        (0.5, 12.0, "[50.0% to over 1000% slower]"),
    ],
)
def test_the_ends_of_an_interval_are_sizes_with_their_side(
    low: float, high: float, text: str
) -> None:
    assert interval_words(TIME, low, high) == text


def test_a_side_that_all_have_is_written_once() -> None:
    assert effect_words(TIME, 0.052, -0.001, 0.11) == "5.2% slower [0.1% faster to 11.0% slower]"
    assert effect_words(TIME, 0.052, 0.034, 0.07) == "5.2% slower [3.4% to 7.0%]"
    assert effect_words(TIME, -0.052, -0.07, -0.034) == "5.2% faster [3.4% to 7.0%]"
    assert effect_words(TIME, 0.0, -0.02, 0.02) == "no change [2.0% faster to 2.0% slower]"
    assert effect_words(TIME, 0.02, 0.0, 0.03) == "2.0% slower [no change to 3.0% slower]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "no change"),
        (-0.0001, "no change"),
        (0.052, "5.2% slower"),
        (-0.01, "1.0% faster"),
        (0.9996, "100% slower"),
        (3.4, "340% slower"),
        (12.0, "over 1000% slower"),
        (math.inf, "unknown"),
    ],
)
def test_a_size_of_change_is_written_in_words(value: float, text: str) -> None:
    assert change_words(TIME, value) == text


def test_what_is_no_speed_is_worse_or_better() -> None:
    assert change_words(get_metric("gpu_memory"), 0.1) == "10.0% worse"
    assert change_words(None, -0.1) == "10.0% better"


def test_a_bound_may_lie_on_the_good_side() -> None:
    assert at_most(0.018, TIME) == "at most 1.8% slower"
    assert at_most(-0.003, TIME) == "at least 0.3% faster"


def test_what_stored_sessions_can_tell() -> None:
    assert (
        sensitivity_words(TIME, 0.026, 0.067)
        == "passes up to 2.6% slower, regressed from 6.7% slower"
    )
    assert sensitivity_words(TIME, -0.018, 0.304) == (
        "passes only from 1.8% faster, regressed from 30.4% slower"
    )


def test_nouns_are_counted() -> None:
    assert [count(n, "process") for n in (1, 2)] == ["1 process", "2 processes"]
    assert count(3, "group of processes") == "3 groups of processes"


def test_what_would_decide() -> None:
    assert more_words(12, 10.0, "pair") == "about 12 more pairs (2 min) would decide"
    assert more_words(1, None, "pair") == "about 1 more pair would decide"
    assert "even hundreds more pairs would not decide" in more_words(None, 10.0, "pair")


def test_why_it_is_not_decided() -> None:
    assert undecided(evidence(1.0, ended=False)) == "not decided"
    assert undecided(evidence(1.0)) == "not decided when measuring ended"
    assert (
        undecided(evidence(1.0, exhausted=True))
        == "not decided within the maximum number of processes"
    )


def test_what_was_seen_on_the_way() -> None:
    assert sample_facts_words(evidence(1.0, 1.0)) == ["2 processes"]
    assert sample_facts_words(evidence(1.0, void=2)) == [
        "1 process",
        "2 invalid processes left out",
    ]
    assert sample_facts_words(paired(0.0, stalls=(1, 0), void=1)) == [
        "1 pair with other.yaml",
        "1 stalled iteration (1 of the candidate)",
        "1 invalid pair left out",
    ]
