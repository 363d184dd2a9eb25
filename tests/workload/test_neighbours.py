"""Differences between two processes that took turns of tokens."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import fmean

import pytest

from pytest_llmperf.measure.neighbours import kind_of_turns, pair_difference
from pytest_llmperf.measure.process_sample import BASE, CANDIDATE, ProcessSample, TurnSamples
from pytest_llmperf.measure.samples import TestSamples
from pytest_llmperf.metrics import get_metric

DECODE_STEPS = 64
#: Undisturbed seconds of the base: to the first token, and per decode step.
FIRST, STEP = 0.4, 0.02


def process(side: str, first: list[float], decode: list[float], replays: int = 0) -> ProcessSample:
    row = {"end_to_end": 2.0, "first_token": 0.5, "tokens_per_sec": 40.0}
    values = {"first_token": tuple(first), "end_to_end": (2.0, 2.0)}
    values["time_per_output_token"] = (STEP,) * replays
    turns = TurnSamples(tuple(decode), DECODE_STEPS, tuple(first), values)
    return ProcessSample(0, (row,), side=side, pair=0, turns=turns)


def both(in_first: float, in_decode: float, every: int = 1) -> tuple[ProcessSample, ProcessSample]:
    """Return candidate and base on a machine that becomes twice as slow, alike for neighbours.

    The candidate is slower by these fractions; in decode only in every ``every``-th turn.
    """
    first_load = [1.0 + turn / 12 for turn in range(12)]
    load = [1.0 + turn / 48 for turn in range(48)]
    slow = [1 + in_decode if turn % every == 0 else 1.0 for turn in range(len(load))]
    base = process(BASE, [FIRST * x for x in first_load], [STEP * x for x in load])
    candidate = process(
        CANDIDATE,
        [FIRST * x * (1 + in_first) for x in first_load],
        [STEP * x * y for x, y in zip(load, slow, strict=True)],
    )
    return candidate, base


@pytest.mark.parametrize("slower", [0.01, 0.05, 0.1])
def test_a_slowdown_comes_out_as_it_is_whatever_hits_both_sides(slower: float) -> None:
    decode, first = both(0.0, slower), both(slower, 0.0)

    def found(pair: tuple[ProcessSample, ProcessSample], name: str) -> float:
        return math.expm1(pair_difference(get_metric(name), *pair))

    assert found(decode, "tokens_per_sec") == pytest.approx(slower)
    assert found(decode, "time_per_output_token") == pytest.approx(slower)
    assert found(decode, "first_token") == pytest.approx(0.0)
    assert found(first, "first_token") == pytest.approx(slower)
    assert found(first, "tokens_per_sec") == pytest.approx(0.0)
    # If both parts slow down alike, the whole slows down as much.
    assert found(both(slower, slower), "end_to_end") == pytest.approx(slower)


def test_end_to_end_weighs_its_parts_by_the_seconds_of_the_base() -> None:
    sides = ((CANDIDATE, 1.1), (BASE, 1.0))
    pair = (process(side, [FIRST] * 12, [STEP * slower] * 48) for side, slower in sides)

    whole = math.expm1(pair_difference(get_metric("end_to_end"), *pair))

    decode = STEP * DECODE_STEPS
    assert whole == pytest.approx(0.1 * decode / (FIRST + decode))
    # Without a second token, the first one is all there is.
    cut = (replace(half, turns=replace(half.turns, steps=0, decode=())) for half in both(0.1, 0.0))
    assert pair_difference(get_metric("end_to_end"), *cut) == pytest.approx(math.log(1.1))


@pytest.mark.parametrize("slower", [0.01, 0.025, 0.05, 0.1])
@pytest.mark.parametrize("tokens", [2, 4])
def test_a_slowdown_of_every_16th_token_comes_out_as_it_is(tokens: int, slower: float) -> None:
    """Turns of ``tokens`` tokens, with noise of 2% on either side."""
    noise, interval = random.Random(7), 16 // tokens

    def seconds(slowdown: float) -> list[float]:
        undisturbed = [STEP * math.exp(noise.gauss(0.0, 0.02)) for _ in range(96)]
        slow = 1.0 + slowdown * interval
        return [x * slow if turn % interval == 1 else x for turn, x in enumerate(undisturbed)]

    differences = [
        pair_difference(
            get_metric("tokens_per_sec"),
            process(CANDIDATE, [FIRST] * 6, seconds(slower)),
            process(BASE, [FIRST] * 6, seconds(0.0)),
        )
        for _ in range(60)
    ]

    assert math.expm1(fmean(differences)) == pytest.approx(slower, rel=0.06, abs=0.001)


def test_outliers_of_one_side_count_in_full() -> None:
    """Every fourth turn of the base takes nine times as long."""
    slow = [STEP * (1 + 8 * (turn % 4 == 0)) for turn in range(96)]
    pair = process(CANDIDATE, [FIRST] * 6, [STEP] * 96), process(BASE, [FIRST] * 6, slow)

    assert pair_difference(get_metric("tokens_per_sec"), *pair) == pytest.approx(-math.log(3.0))
    # Decode is weighted by the time it took.
    decode = STEP * DECODE_STEPS
    assert pair_difference(get_metric("end_to_end"), *pair) == pytest.approx(
        math.log((FIRST + decode) / (FIRST + 3 * decode))
    )


@pytest.mark.parametrize("turns", [40, 5000])
def test_any_number_of_outliers_is_judged(turns: int) -> None:
    """Every third turn of the candidate takes twice as long."""
    slow = [STEP * (1 + (turn % 3 == 0)) for turn in range(turns)]
    pair = process(CANDIDATE, [FIRST] * 6, slow), process(BASE, [FIRST] * 6, [STEP] * turns)

    found = pair_difference(get_metric("tokens_per_sec"), *pair)

    assert found == pytest.approx(math.log(4 / 3), abs=0.02)


#: Undisturbed seconds of each turn of a replay: of two requests, or with a growing context.
SHAPES = {
    "requests": [STEP] * 8 + [STEP * 1.5] * 8,
    "depth": [STEP * (1 + turn / 8) for turn in range(16)],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("replays", [1, 3, 6])
def test_turns_that_are_always_slower_count_like_the_others(
    shape: list[float], replays: int
) -> None:
    """The candidate is 10% slower in the slower half of each replay."""
    slower = [seconds * (1.1 if turn >= 8 else 1.0) for turn, seconds in enumerate(shape)]
    pair = (
        process(CANDIDATE, [FIRST] * 6, slower * replays, replays),
        process(BASE, [FIRST] * 6, shape * replays, replays),
    )

    found = pair_difference(get_metric("tokens_per_sec"), *pair)

    assert found == pytest.approx(math.log(1.1) / 2)


def test_what_is_always_slower_is_learnt_from_all_pairs() -> None:
    """In one pair a neighbour disturbs the second half of each replay."""
    noise, pairs = random.Random(5), []
    for pair in range(5):
        for side, slower in ((CANDIDATE, 1.05), (BASE, 1.0)):
            decode = [seconds * slower for seconds in SHAPES["requests"]] * 3
            for turn in range(len(decode)) if pair == 0 else ():
                if turn % 16 >= 8:
                    decode[turn] *= 2.0 * noise.uniform(0.8, 1.6)
            pairs.append(replace(process(side, [FIRST] * 6, decode, 3), pair=pair))
    rate = get_metric("tokens_per_sec")

    assert TestSamples(pairs).differences(rate) == pytest.approx([math.log(1.05)] * 5)
    # That pair by itself can't show it.
    assert pair_difference(rate, *pairs[:2]) != pytest.approx(math.log(1.05), abs=0.005)


@pytest.mark.parametrize("turns", [31, 8])
def test_a_turn_that_is_slow_in_each_replay_counts_in_full(turns: int) -> None:
    """Three replays, in each of which the candidate's fourth turn takes five times as long."""
    slow = [STEP * (5 if turn == 3 else 1) for turn in range(turns)] * 3
    pair = (
        process(CANDIDATE, [FIRST] * 6, slow, 3),
        process(BASE, [FIRST] * 6, [STEP] * 3 * turns, 3),
    )

    found = pair_difference(get_metric("tokens_per_sec"), *pair)

    assert found == pytest.approx(math.log((turns + 4) / turns))


def test_a_stall_at_the_same_turn_of_two_replays_is_the_machines() -> None:
    slow = [STEP] * 48
    slow[3] = slow[19] = slow[40] = STEP * 5
    pair = process(CANDIDATE, [FIRST] * 6, slow, 3), process(BASE, [FIRST] * 6, [STEP] * 48, 3)

    assert pair_difference(get_metric("tokens_per_sec"), *pair) < math.log(1.02)


def test_outliers_of_both_sides_are_the_machines() -> None:
    """Each side has as many: none counts for much, however large."""
    base, candidate = [STEP] * 96, [STEP * 1.05] * 96
    for turn in range(4, 96, 8):
        (base, candidate)[turn // 8 % 2][turn] *= 3.0
    pair = process(CANDIDATE, [FIRST] * 6, candidate), process(BASE, [FIRST] * 6, base)

    found = pair_difference(get_metric("tokens_per_sec"), *pair)

    assert found == pytest.approx(math.log(1.05), abs=0.01)


@pytest.mark.parametrize("every", [2, 4])
def test_a_slowdown_of_some_turns_counts_by_their_share(every: int) -> None:
    found = pair_difference(get_metric("tokens_per_sec"), *both(0.0, 0.14, every=every))

    # Not exactly: the machine becomes slower meanwhile, and only its faster turns count.
    assert found == pytest.approx(math.log(1.14) / every, rel=0.1)


def test_disturbed_turns_are_left_out() -> None:
    """A neighbour that comes and goes every ten turns, each time during a turn of one side."""
    order = random.Random(3)
    speeds = [1.0 if turn // 10 % 2 == 0 else 2.5 for turn in range(96)]
    base, candidate = [STEP * x for x in speeds], [STEP * x * 1.05 for x in speeds]
    for turn in range(10, 96, 10):
        side = order.choice((base, candidate))
        side[turn] *= order.uniform(0.5, 0.9) if turn // 10 % 2 else order.uniform(1.2, 2.0)
    pair = process(CANDIDATE, [FIRST] * 6, candidate), process(BASE, [FIRST] * 6, base)

    found = pair_difference(get_metric("tokens_per_sec"), *pair)

    assert found == pytest.approx(math.log(1.05), abs=0.015)


def test_what_a_disturbed_machine_says_does_not_count() -> None:
    """Every other turn is disturbed, and the base is slowed further twice as often."""
    speeds = [1.0, 3.0] * 12
    base, candidate = [STEP * x for x in speeds], [STEP * x * 1.05 for x in speeds]
    for turn in range(1, 24, 2):
        (base if turn % 3 else candidate)[turn] *= 2.0
    pair = process(CANDIDATE, [FIRST] * 6, candidate), process(BASE, [FIRST] * 6, base)

    found = pair_difference(get_metric("tokens_per_sec"), *pair)

    assert found == pytest.approx(math.log(1.05))


def test_a_stall_of_one_side_alone_counts_for_little() -> None:
    candidate, base = both(0.0, 0.05)
    assert candidate.turns is not None
    decode = list(candidate.turns.decode)
    for turn in (7, 31):
        decode[turn] *= 20.0
    hit = replace(candidate, turns=replace(candidate.turns, decode=tuple(decode)))

    found = pair_difference(get_metric("tokens_per_sec"), hit, base)

    assert found == pytest.approx(math.log(1.05), abs=0.02)


def test_prompts_that_the_machine_hit_count_for_little() -> None:
    """All replays evaluate the same prompt: if one takes longer, the machine is the cause."""
    noise = random.Random(3)
    base = [FIRST * math.exp(noise.gauss(0.0, 0.01)) for _ in range(12)]
    candidate = [FIRST * 1.05 * math.exp(noise.gauss(0.0, 0.01)) for _ in range(12)]
    for replay in (2, 5, 9):
        candidate[replay] *= 1.13
    pair = process(CANDIDATE, candidate, [STEP] * 48), process(BASE, base, [STEP] * 48)

    found = pair_difference(get_metric("first_token"), *pair)

    assert found == pytest.approx(math.log(1.05), abs=0.01)


def test_turns_decide_what_they_measured_and_iterations_the_rest() -> None:
    candidate, base = both(0.0, 0.05)

    assert kind_of_turns("tokens_per_sec", candidate, base) == 2
    assert kind_of_turns("end_to_end", candidate, base) == 2
    assert kind_of_turns("prefill_tokens_per_sec", candidate, base) == 0
    prompts = [replace(half, turns=replace(half.turns, decode=())) for half in (candidate, base)]
    assert kind_of_turns("tokens_per_sec", *prompts) == 0
    assert kind_of_turns("end_to_end", *prompts) == 0
    assert kind_of_turns("first_token", *prompts) == 2
    assert pair_difference(get_metric("tokens_per_sec"), *prompts) == 0.0


def test_a_pair_that_took_turns_for_other_metrics_neither_decides_nor_ran_alone() -> None:
    def pairs(first: int, *, in_turns: bool, decodes: bool) -> list[ProcessSample]:
        halves = []
        for half in both(0.0, 0.05):
            turns = half.turns if decodes else replace(half.turns, decode=())
            halves.append(replace(half, pair=first, turns=turns if in_turns else None))
        return halves

    samples = TestSamples(
        [
            *pairs(0, in_turns=False, decodes=True),
            *pairs(1, in_turns=True, decodes=True),
            # More pairs that took turns for the first token only than other pairs.
            *(half for pair in range(2, 8) for half in pairs(pair, in_turns=True, decodes=False)),
        ]
    )
    rate = get_metric("tokens_per_sec")

    assert samples.pairs == 8
    assert samples.differences(rate) == pytest.approx((math.log(1.05),))
    assert samples.differences_without_turns(rate) == (0.0,)
    assert len(samples.differences(get_metric("first_token")) or ()) == 7
