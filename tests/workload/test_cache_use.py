"""Prompts served from a cache: found, unknown, or another share than on the base side."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.engine.server.answer import AnswerBuilder
from pytest_llmperf.engine.server.counters import ServerCounters
from pytest_llmperf.engine.server.load_result import LoadResult, RequestOutcome
from pytest_llmperf.engine.server.schedule import closed
from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.cache_use import void_if_cache_use_differs
from pytest_llmperf.measure.load_validity import load_findings
from pytest_llmperf.measure.process_sample import BASE, CANDIDATE, ProcessSample


def answers(*cached: int | None) -> list[RequestOutcome]:
    """Return answers to prompts of 100 tokens, each with this many tokens from a cache."""
    times = array("d", (0.4, 0.6))
    sound = RequestOutcome(0, 0.0, 0.0, 0.0, 1.0, times, 0.4, None, 2, 2, 100)
    return [replace(sound, number=n, cached_tokens=tokens) for n, tokens in enumerate(cached)]


def counted(hits: int | None, prompts: int | None = 1000) -> ServerSide | None:
    """Return the server's counters of a load; they had 50 hits among 200 tokens before it."""
    after = None if hits is None else 50 + hits
    known = {"cache_hits": after, "cache_queries": None if prompts is None else 200 + prompts}
    before = ServerCounters("vLLM", cache_hits=50, cache_queries=200)
    return ServerSide.of(before, (), ServerCounters("vLLM", **known))


def found(
    *cached: int | None, servers: tuple[ServerSide | None, ...] = (), bound: int | None = 1
) -> list[FitnessFinding]:
    named = {f"http://{number}": server for number, server in enumerate(servers)}
    schedule = closed(1, requests=len(cached))
    return load_findings(
        LoadResult(schedule, tuple(answers(*cached)), (0.0, 1.0), max_cached=bound, servers=named)
    )


def test_prompts_from_a_cache_are_found_by_the_answers() -> None:
    (finding,) = found(0, 40, 0)
    assert (finding.name, finding.severity) == ("prompt_cached", "invalid")
    assert finding.text.startswith("1 of 3 prompts were served from a cache, such as 40 of 100")
    assert found(0, 1, 0) == found(0, 40, 0, bound=None) == []


@pytest.mark.parametrize("servers", [(), (None,), (counted(None),), (counted(0), None)])
@pytest.mark.parametrize("bound", [1, None])
def test_use_of_the_cache_that_nobody_tells_is_unknown(servers: Any, bound: int | None) -> None:
    (finding,) = found(None, None, servers=servers, bound=bound)
    assert (finding.name, finding.severity) == ("cache_unknown", "warn")
    assert "from its cache is unknown: neither its answers nor its /metrics say" in finding.text


def test_what_one_answer_hides_is_unknown() -> None:
    assert [finding.name for finding in found(0, None, 0)] == ["cache_unknown"]


def test_prompts_from_a_cache_are_found_by_the_counters_where_answers_are_silent() -> None:
    (finding,) = found(None, None, servers=(counted(600), counted(0)))
    assert (finding.name, finding.severity) == ("prompt_cached", "invalid")
    assert "counters 30% of the prompt tokens came from a cache, about 30 of each" in finding.text
    # A hit on the token for the beginning of the text can't be avoided.
    assert found(None, None, servers=(counted(10),)) == []
    assert found(None, 0, servers=(counted(0),)) == []
    assert found(None, None, servers=(counted(600),), bound=None) == []


def test_counters_are_not_asked_where_the_answers_tell() -> None:
    # Counters include other clients' requests.
    assert found(0, 0, servers=(counted(600),)) == []


def test_a_load_without_an_answer_says_nothing_of_the_cache() -> None:
    failed = replace(answers(None)[0], fault="reset")
    schedule = closed(1, requests=1)
    names = [finding.name for finding in load_findings(LoadResult(schedule, (failed,), (0.0, 1.0)))]
    assert names == ["failed_requests"]


def test_timings_tell_how_long_the_prompt_was_and_how_much_was_cached() -> None:
    builder = AnswerBuilder()
    builder.take(0.1, {"choices": [{"text": "a"}], "timings": {"cache_n": 30, "prompt_n": 12}})
    answer = builder.answer(0.0, 0.0, 0.2)
    assert (answer.prompt_tokens, answer.cached_tokens) == (42, 30)
    builder.take(0.1, {"choices": [], "usage": {"prompt_tokens": 50}})
    assert builder.answer(0.0, 0.0, 0.2).prompt_tokens == 50


def pair(candidate: float | None, base: float | None) -> list[ProcessSample]:
    iterations = ({"first_token": 1.0},)
    return [
        ProcessSample(0, iterations, side=CANDIDATE, pair=0, cache_share=candidate),
        ProcessSample(1, iterations, side=BASE, pair=0, cache_share=base),
    ]


@pytest.mark.parametrize(("shares", "words"), [((0.5, 0.0), "50%"), ((0.1, 0.9), "10%")])
def test_a_pair_whose_caches_served_other_shares_is_void(
    shares: tuple[float, float], words: str
) -> None:
    halves = void_if_cache_use_differs(pair(*shares), {})
    for half in halves:
        assert half.void is not None
        assert half.void.startswith(f"caches served {words} of the candidate's prompt tokens and ")
        assert [finding.name for finding in half.findings] == ["cache_hits_differ"]


@pytest.mark.parametrize("shares", [(0.5, 0.45), (0.0, 0.0), (None, 0.9), (0.9, None)])
def test_a_pair_whose_shares_are_alike_or_unknown_counts(shares: Any) -> None:
    assert void_if_cache_use_differs(pair(*shares), {}) == pair(*shares)


def test_a_lower_severity_lets_the_pair_count() -> None:
    halves = void_if_cache_use_differs(pair(0.5, 0.0), {"cache_hits_differ": "note"})
    assert [half.void for half in halves] == [None, None]
    assert [half.findings[0].severity for half in halves] == ["note", "note"]


def test_a_sample_without_a_pair_counts() -> None:
    alone = pair(0.5, None)[:1]
    assert void_if_cache_use_differs(alone, {}) == alone
