"""Figures of single answers: measured here, stated by the server, measured by another tool."""

from __future__ import annotations

import random
from typing import Any

import pytest
from load_tools import Latencies, latencies_of, specification
from server_agreement import line, pair_of, prompts
from tools_env import SetupError

from pytest_llmperf.engine.server.answer import Chunk, ServerAnswer, Usage

TIMINGS = {"prompt_ms": 90.0, "predicted_ms": 20.0, "predicted_n": 5}


def answer(**changed: Any) -> ServerAnswer:
    times = (10.1, 10.105, 10.12)
    chunks = tuple(Chunk(at, "a", "", "text") for at in times)
    fields = {"usage": Usage(3, 5, 0), "timings": TIMINGS, "finish_reason": "length", **changed}
    return ServerAnswer(9.5, 10.0, chunks, 10.2, **fields)


def test_both_sides_count_the_gaps_between_tokens():
    pair = pair_of(answer(), 5)
    # Three chunks hold five tokens.
    assert pair.ours == pytest.approx({"first token": 0.1, "time per token": 0.005})
    assert pair.servers == pytest.approx({"first token": 0.09, "time per token": 0.005})


@pytest.mark.parametrize("timings", [None, {"prompt_ms": 1.0}])
def test_a_server_without_timings_is_refused(timings):
    with pytest.raises(SystemExit, match="no timings"):
        pair_of(answer(timings=timings), 5)


def test_prompts_differ_and_are_of_one_length():
    drawn = list(prompts(random.Random(1), 20, 100))
    assert len(set(drawn)) == 20
    assert {len(prompt) for prompt in drawn} == {100}


def test_a_row_has_the_ratio_of_pairs():
    text = line("first token", [0.102] * 8, [0.1] * 8, "the server")
    assert "102.000   100.000   1.0200 [1.0200, 1.0200]  +2.000 ms" in text


def results(**requests: Any) -> Any:
    return {"benchmarks": [{"requests": {"successful": [], "errored": [], **requests}}]}


def test_guidellms_figures_are_those_of_single_requests():
    request = {"time_to_first_token_ms": 50.0, "inter_token_latency_ms": 2.0}
    assert latencies_of(results(successful=[request])) == Latencies((0.05,), (0.002,))


@pytest.mark.parametrize("failed", [{}, {"successful": [{}], "errored": [{}]}])
def test_failed_requests_are_not_compared(failed):
    with pytest.raises(SetupError, match="GuideLLM"):
        latencies_of(results(**failed))


def test_guidellm_is_asked_for_the_same(tmp_path):
    spec = specification("http://h:1", "m", tmp_path / "requests.json", 8, tmp_path / "out.json")
    assert spec["profile"] == {"kind": "synchronous"}
    assert spec["constraints"] == [{"kind": "max_requests", "count": 8}]
    assert spec["backend"]["extras"]["body"]["cache_prompt"] is False
