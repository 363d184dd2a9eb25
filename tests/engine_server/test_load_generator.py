"""The load generator against a server whose latencies and faults are known."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence

import pytest
from server_simulator import ServerSimulator
from simulated_answers import Plan

from pytest_llmperf.engine.server.answer import ServerAnswer, ServerRequest
from pytest_llmperf.engine.server.client import ServerClient
from pytest_llmperf.engine.server.generator import LoadGenerator
from pytest_llmperf.engine.server.load_result import LoadResult
from pytest_llmperf.engine.server.schedule import Schedule, closed, constant, poisson, trace
from pytest_llmperf.engine.server.settings import ServerSettings
from pytest_llmperf.measure.load_metrics import load_figures, slips, values_of
from pytest_llmperf.measure.load_validity import load_findings
from pytest_llmperf.metrics import compute_all


def numbered(count: int, tokens: int = 4) -> list[ServerRequest]:
    """Return requests with a number that the server records."""
    return [
        ServerRequest("hi", max_tokens=tokens, body={"simulate": {"number": number}})
        for number in range(count)
    ]


def loaded(
    schedule: Schedule,
    plan: Plan,
    requests: Sequence[ServerRequest] | None = None,
    *,
    slots: int | None = None,
    stop: tuple[float, float] | None = None,
) -> tuple[LoadResult, ServerSimulator]:
    async def load() -> tuple[LoadResult, ServerSimulator]:
        async with ServerSimulator(plan, slots=slots, stop=stop) as server:
            settings = ServerSettings(server.url, idle_s=2.0, total_s=5.0)
            async with ServerClient(settings) as client:
                sent = requests or numbered(len(schedule.due) or 100)
                return await LoadGenerator(client.ask, sent, schedule).run(), server

    return asyncio.run(asyncio.wait_for(load(), 60))


def test_an_open_load_sends_each_request_when_it_is_due():
    result, server = loaded(poisson(100, seed=3, requests=20), Plan(first=0.2, gap=0.005))
    begin = result.outcomes[0].due
    offsets = [call.due - begin + result.schedule.due[0] for call in result.outcomes]
    assert offsets == pytest.approx(result.schedule.due)
    assert [call.number for call in result.outcomes] == list(range(20))
    # All were received before more than half were answered: none waited for an answer.
    ends = sorted(call.ended for call in result.outcomes)
    assert max(truth.received for truth in server.truths) < ends[10]
    for call in result.outcomes:
        assert call.due <= call.asked <= call.sent < call.times[0] < call.times[-1] <= call.ended
        assert (call.fault, call.tokens, call.tokens_asked, len(call.times)) == (None, 4, 4, 4)
        assert (call.prompt_tokens, call.cached_tokens) == (5, 2)
    assert result.window == (begin, ends[-1])


def test_a_closed_load_keeps_its_number_of_requests_in_flight():
    result, server = loaded(closed(4, requests=22), Plan(first=0.01))
    assert sorted(truth.number for truth in server.truths) == list(range(22))
    edges = [(outcome.asked, 1) for outcome in result.outcomes] + [
        (outcome.ended, -1) for outcome in result.outcomes
    ]
    flying, peak = 0, 0
    for _, step in sorted(edges):
        flying += step
        peak = max(peak, flying)
    assert peak == 4
    assert not result.schedule.is_open


def test_a_closed_load_of_a_duration_ends_after_it():
    result, _ = loaded(closed(2, duration=0.2), Plan(first=0.03), numbered(1))
    assert 4 <= len(result.outcomes) <= 14
    assert max(outcome.due for outcome in result.outcomes) < result.window[0] + 0.21


def test_latencies_count_from_when_requests_were_due():
    # Server and client share an event loop, so the client could not send during the stop either.
    schedule, plan = constant(50, requests=30), Plan(first=0.005)
    result, server = loaded(schedule, plan, stop=(0.1, 0.4))
    begin, end = server.stopped
    within = [outcome for outcome in result.outcomes if begin < outcome.due < end]
    assert len(within) > 10
    for outcome in within:
        assert outcome.times[0] >= end
        assert outcome.sent >= end
    assert max(values_of(result.outcomes, "first_token")) > 0.3
    assert max(slips(result)) > 0.3
    assert [finding.name for finding in load_findings(result)] == ["client_slip"]


def test_a_run_of_the_answers_has_the_metrics_of_runs():
    result, _ = loaded(constant(50, requests=5), Plan(first=0.02, gap=0.01, tokens_per_chunk=2))
    run = result.run()
    assert run is not None
    figures, values = load_figures(result), compute_all(run)
    assert values["first_token"] == figures.from_schedule["first_token"].median
    assert [timeline.output_tokens for timeline in run.timelines] == [4] * 5
    assert [request.due for request in run.schedule] == [outcome.due for outcome in result.outcomes]
    uncounted, _ = loaded(constant(50, requests=2), Plan(usage="none"))
    assert uncounted.run() is None


def test_what_the_client_computes_is_told_without_its_busy_waits():
    def busy(schedule: Schedule, cpu: float) -> float:
        async def ask(_: ServerRequest) -> ServerAnswer:
            until = time.thread_time() + cpu
            while time.thread_time() < until:
                pass
            return ServerAnswer(0.0, 0.0, (), 0.0)

        generator = LoadGenerator(ask, [ServerRequest("hi")], schedule)
        return asyncio.run(generator.run()).busy

    # The generator busy-waits up to a millisecond before each request: half of the time.
    assert busy(constant(500, requests=250), cpu=0.0) < 0.3
    assert busy(closed(1, requests=20), cpu=0.01) > 0.3


def test_a_trace_sends_the_requests_that_it_states(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text('{"at": 0}\n{"at": 0.01, "prompt": "own", "max_tokens": 2}\n{"at": 0.02}\n')
    result, _ = loaded(trace(path), Plan(), [ServerRequest("usual", max_tokens=3)])
    assert [outcome.tokens for outcome in result.outcomes] == [3, 2, 3]


FAULTY = ("reset", "bad_frame", "status", "error_event", "cut_short", "half_frame", "stall")
KINDS = {
    "reset": "reset",
    "bad_frame": "bad_frame",
    "status": "status",
    "error_event": "server_error",
    "cut_short": "cut_short",
    "half_frame": "cut_short",
    "stall": "idle_timeout",
}


def test_no_request_is_lost_among_faults():
    requests = numbered(140)
    expected = {}
    for number in range(0, 140, 20):
        fault = FAULTY[number // 20]
        expected[number] = KINDS[fault]
        requests[number] = ServerRequest(
            "hi", max_tokens=4, body={"simulate": {"number": number, "fault": fault}}
        )
    result, server = loaded(closed(16, requests=140), Plan(), requests)
    assert {call.number: call.fault for call in result.outcomes if call.fault} == expected
    assert [call.number for call in result.outcomes] == list(range(140))
    assert len(server.truths) == 140
    assert len(result.answered) == 133
    (finding,) = [note for note in load_findings(result) if note.name == "failed_requests"]
    assert "7 of 140 requests failed" in finding.text


@pytest.mark.parametrize("schedule", [constant(100, requests=50), closed(2, requests=50)])
def test_a_mistake_of_the_program_ends_the_load(schedule):
    asked = []

    async def broken(request: ServerRequest) -> None:
        asked.append(request)
        await asyncio.sleep(0)
        raise ZeroDivisionError

    generator = LoadGenerator(broken, numbered(1), schedule)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(generator.run(), 10))
    assert len(asked) < 10


def test_the_garbage_collector_is_as_before_afterwards():
    before = gc.get_threshold()
    seen = []

    async def looking(request: ServerRequest) -> None:
        seen.append((gc.get_threshold()[2] > before[2], gc.get_freeze_count() > 0))
        raise ZeroDivisionError

    generator = LoadGenerator(looking, numbered(1), constant(1, requests=1))  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        asyncio.run(generator.run())
    assert seen == [(True, True)]
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_a_load_without_requests_is_refused():
    with pytest.raises(ValueError, match="no requests"):
        LoadGenerator(ServerClient(ServerSettings("http://h")).ask, [], constant(1, requests=1))


def test_no_request_is_lost_where_the_server_closes_its_connections(llama_url):
    # llama.cpp's server closes each connection after one answer, and does not say so before.
    async def load() -> LoadResult:
        async with ServerClient(ServerSettings(llama_url, api="completions")) as client:
            requests = [ServerRequest("Hello", max_tokens=4, body={"ignore_eos": True})]
            return await LoadGenerator(client.ask, requests, closed(2, requests=30)).run()

    result = asyncio.run(asyncio.wait_for(load(), 60))
    assert [outcome.message for outcome in result.outcomes if outcome.fault] == []
    assert [outcome.tokens for outcome in result.outcomes] == [4] * 30
