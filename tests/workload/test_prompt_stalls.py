"""The cost of other requests' prompts to answers under way; none where it can't be told."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest

from pytest_llmperf.engine.server.load_result import RequestOutcome
from pytest_llmperf.measure.prompt_stalls import prompt_stalls

GAP, PROMPT = 0.01, 0.2


def outcome(sent: float, times: Sequence[float]) -> RequestOutcome:
    return RequestOutcome(0, sent, sent, sent, times[-1], array("d", times), None, 1, 40, 40)


def alternating(prompt: float, *, waits: float = 0.0) -> list[RequestOutcome]:
    """Return an answer with a token every 10 ms, and ten requests whose prompts stop it.

    ``waits``: seconds that those requests wait before their prompt is read.
    """
    times, others = [0.0], []
    for _ in range(10):
        for _ in range(30):
            times.append(times[-1] + GAP)
        sent = times[-1] - waits
        times.append(times[-1] + prompt)
        others.append(outcome(sent, [times[-1]]))
    return [outcome(-1.0, times), *others]


def test_gaps_while_another_prompt_is_read_are_its_cost() -> None:
    stalls = prompt_stalls(alternating(PROMPT))
    assert stalls is not None
    assert (stalls.beside, stalls.usual) == pytest.approx((PROMPT, GAP))
    assert stalls.share == pytest.approx(10 * (PROMPT - GAP) / (10 * (30 * GAP + PROMPT)))


def test_short_prompts_cost_nothing() -> None:
    assert prompt_stalls(alternating(1.5 * GAP)) is None


def test_a_hiccup_beside_a_prompt_is_none() -> None:
    answer, *others = alternating(GAP)
    times = [time + 2.0 * (time > 1.0) for time in answer.times]
    moved = [outcome(peer.due + 2.0 * (peer.due > 0.9), [t]) for peer in others for t in peer.times]
    assert prompt_stalls([outcome(-1.0, times), *moved]) is None


def test_long_gaps_without_a_prompt_have_another_cause() -> None:
    answer, *_ = alternating(PROMPT)
    assert prompt_stalls([answer]) is None


def test_of_requests_that_always_wait_nothing_can_be_told() -> None:
    assert prompt_stalls(alternating(PROMPT, waits=0.28)) is None
    # Alone at the end, an answer is faster.
    answer, *others = alternating(PROMPT, waits=0.29)
    faster = [answer.times[-1] + GAP / 4 * number for number in range(1, 30)]
    assert prompt_stalls([outcome(-1.0, [*answer.times, *faster]), *others]) is None


def test_of_chunks_that_come_together_nothing_can_be_told() -> None:
    alone, beside = outcome(0.0, [1.0] * 30), outcome(4.5, [5.0] * 10)
    assert prompt_stalls([alone, beside, outcome(4.0, [6.0])]) is None


def test_answers_of_one_chunk_have_no_gaps() -> None:
    assert prompt_stalls([outcome(0.0, [1.0])]) is None
    assert prompt_stalls([]) is None
