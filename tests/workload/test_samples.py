from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.measure.kept_pairs import KeptPairs
from pytest_llmperf.measure.samples import BASE, CANDIDATE, ProcessSample, TestSamples, TurnSamples
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.stats.percentiles import min_values


def sample(pair: int | None, side: str = CANDIDATE, *gaps: float, **values: float) -> ProcessSample:
    return ProcessSample(
        0,
        iterations=(values,) if values else (),
        side=side,
        pair=pair,
        pooled={"inter_token": gaps},
    )


def test_rows_of_a_pair_stand_in_the_same_place_whichever_arm_went_first() -> None:
    samples = TestSamples(
        [
            sample(0, CANDIDATE, end_to_end=1.0),
            sample(0, BASE, end_to_end=10.0),
            sample(1, BASE, end_to_end=20.0),
            sample(1, CANDIDATE, end_to_end=2.0),
        ]
    )

    assert samples.paired("end_to_end") == (((1.0,), (2.0,)), ((10.0,), (20.0,)))


def pair(number: int, beside: bool, **values: float) -> list[ProcessSample]:
    base = dict.fromkeys(values, 1.0)
    return [
        replace(sample(number, CANDIDATE, **values), in_iteration_turns=beside),
        replace(sample(number, BASE, **base), in_iteration_turns=beside),
    ]


def test_pairs_that_took_turns_decide_where_they_are_as_many_as_the_others() -> None:
    metric = get_metric("end_to_end")
    samples = TestSamples([*pair(0, False, end_to_end=9.0), *pair(1, True, end_to_end=2.0)])

    assert samples.differences(metric) == pytest.approx([math.log(2.0)])
    assert samples.paired("end_to_end") == (((2.0,),), ((1.0,),))
    assert samples.pairs == 2
    # With fewer pairs in turns than without, those without decide.
    samples.processes += pair(2, False, end_to_end=3.0)
    assert samples.differences(metric) == pytest.approx([math.log(9.0), math.log(3.0)])
    assert samples.differences(get_metric("inter_token_p95")) is None


def test_neighbouring_iterations_are_compared() -> None:
    """What the machine did to two neighbours alike is not in their difference."""
    rate = get_metric("tokens_per_sec")
    base = [{"tokens_per_sec": speed} for speed in (10.0, 15.0, 11.0)]
    slower = [{"tokens_per_sec": row["tokens_per_sec"] / 1.06} for row in base]
    # One iteration of one side alone is hit as well.
    slower[0]["tokens_per_sec"] /= 1.3
    halves = [
        ProcessSample(0, tuple(rows), side=side, pair=0, in_iteration_turns=True)
        for side, rows in ((CANDIDATE, slower), (BASE, base))
    ]
    assert TestSamples(halves).differences(rate) == pytest.approx([math.log(1.06)])
    # Without a neighbour for each, their medians are compared.
    halves[0] = replace(halves[0], iterations=halves[0].iterations[:2])
    middle = statistics.median(row["tokens_per_sec"] for row in slower[:2])
    assert TestSamples(halves).differences(rate) == pytest.approx([math.log(11.0 / middle)])


def test_a_kept_pair_is_known_to_have_taken_turns(tmp_path: Path) -> None:
    pairs = KeptPairs(tmp_path)
    sides = (CANDIDATE, BASE)
    pairs.add(
        {}, [replace(sample(0, side, end_to_end=1.0), in_iteration_turns=True) for side in sides]
    )
    assert [half.in_iteration_turns for half in pairs.load({})] == [True, True]


def test_half_a_pair_is_a_value_of_the_candidate_but_no_pair() -> None:
    samples = TestSamples(
        [
            sample(0, CANDIDATE, end_to_end=1.0),
            sample(1, CANDIDATE, end_to_end=2.0),
            sample(1, BASE, end_to_end=20.0),
        ],
        voided=[sample(0, BASE)],
    )

    assert samples.values("end_to_end") == ((1.0,), (2.0,))
    assert samples.paired("end_to_end") == (((2.0,),), ((20.0,),))
    assert (samples.pairs, samples.void_pairs) == (1, 1)


def test_a_metric_that_one_arm_does_not_define_has_no_pairs() -> None:
    samples = TestSamples([sample(0, CANDIDATE, tokens_per_sec=1.0), sample(0, BASE)])

    assert samples.pairs == 1
    assert samples.paired("tokens_per_sec") == ((), ())


def test_raw_values_come_by_process_of_an_arm() -> None:
    samples = TestSamples(
        [sample(0, CANDIDATE, 0.1, 0.2), sample(0, BASE, 0.3, 0.4), sample(1, BASE, 0.5)]
    )

    assert samples.pooled_rows("inter_token", CANDIDATE) == ((0.1, 0.2),)
    assert samples.pooled_rows("inter_token", BASE) == ((0.3, 0.4), (0.5,))
    assert samples.paired_pooled("inter_token") == (((0.1, 0.2),), ((0.3, 0.4),))


@pytest.fixture
def hundreds() -> TestSamples:
    """Six pairs of 50 gaps each: twice as long for the base, ten times for both in pair 3."""
    assert 50 < min_values(95) <= 100
    processes = []
    for pair in range(6):
        gaps = [(n + 1) * (10.0 if pair == 3 else 1.0) for n in range(50)]
        processes.append(sample(pair, CANDIDATE, *gaps))
        processes.append(sample(pair, BASE, *(2 * gap for gap in gaps)))
    return TestSamples(processes)


def test_a_percentile_has_one_value_per_group_of_processes(hundreds: TestSamples) -> None:
    rows = hundreds.values("inter_token_p95")

    assert [len(row) for row in rows] == [1, 1, 1]
    assert rows[0] == rows[2]
    assert rows[0][0] == pytest.approx(48.0, abs=1.5)
    assert rows[1][0] > 5 * rows[0][0]


def test_a_percentile_groups_the_same_pairs_of_both_arms(hundreds: TestSamples) -> None:
    candidate, base = hundreds.paired("inter_token_p95")

    assert len(candidate) == len(base) == 3
    assert [b[0] / a[0] for a, b in zip(candidate, base, strict=True)] == pytest.approx([2.0] * 3)


def test_too_few_values_have_no_percentile(hundreds: TestSamples) -> None:
    del hundreds.processes[2:]

    assert hundreds.values("inter_token_p95") == ()
    assert hundreds.paired("inter_token_p95") == ((), ())


def test_what_a_kept_pair_measured_in_turns_is_kept(tmp_path: Path) -> None:
    pairs = KeptPairs(tmp_path)
    turns = TurnSamples((0.1, 0.2), 3, (0.5,), {"end_to_end": (1.0, 1.1)})
    halves = [
        replace(sample(0, side, end_to_end=1.0), turns=turns, disturbed="busy")
        for side in (CANDIDATE, BASE)
    ]
    pairs.add({}, halves)
    kept = pairs.load({})
    assert [half.turns for half in kept] == [turns, turns]
    # Its levels count no more in a later session than in its own.
    assert [half.disturbed for half in kept] == ["busy", "busy"]
    assert pairs.problems == []


@pytest.mark.parametrize(
    "damaged",
    [
        {"decode": (0.1, 0.0)},
        {"first_tokens": (-1.0,)},
        {"values": {"end_to_end": (1.0, 0.0)}},
        {"partial": {"prompt": (0.0,)}},
    ],
)
def test_turns_that_nothing_can_have_measured_do_not_count(tmp_path: Path, damaged: Any) -> None:
    pairs = KeptPairs(tmp_path)
    sound = TurnSamples((0.1, 0.2), 3, (0.5,), {"end_to_end": (1.0, 1.1)}, {"prompt": (0.2,)})
    for turns in (sound, replace(sound, **damaged)):
        sides = (sample(0, side, end_to_end=1.0) for side in (CANDIDATE, BASE))
        pairs.add({}, [replace(half, turns=turns) for half in sides])
    assert [half.turns for half in pairs.load({})] == [sound, sound]
    (problem,) = pairs.problems
    assert next(iter(damaged)) in problem
