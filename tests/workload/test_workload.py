from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.request import Request
from pytest_llmperf.measure.workload import RecordedRequest, Recorder, Workload
from pytest_llmperf.timeline import Timeline

Ask = Callable[..., Request]


def outcome(
    prompt: tuple[int, ...] = (1, 2, 3), evaluated: int | None = 3, tokens: int = 4
) -> Generation:
    times = tuple(float(n) for n in range(1, tokens + 1))
    timeline = Timeline(0.0, times, len(prompt) or None, evaluated, 0.0, 0.5)
    return Generation("text", tuple(range(tokens)), prompt, timeline, "length", "clear")


def workload(request: Request, **changes: Any) -> Workload:
    return Workload((RecordedRequest.of(request, outcome(**changes)),))


def test_the_hash_of_the_same_work_is_the_same(ask: Ask) -> None:
    assert workload(ask()).hash == workload(ask()).hash


def test_the_hash_is_known_so_that_stored_baselines_stay_comparable(ask: Ask) -> None:
    assert workload(ask()).hash == "c58fc87b42e8b3a6"


@pytest.mark.parametrize(
    "options",
    [
        {"cache": "keep"},
        {"stream": True},
        {"seed": 1},
        {"temperature": 0.5},
        {"grammar": "root ::= [a]"},
    ],
)
def test_the_hash_tells_other_requests_apart(ask: Ask, options: dict[str, Any]) -> None:
    assert workload(ask(**options)).hash != workload(ask()).hash


@pytest.mark.parametrize(
    "changes", [{"tokens": 5}, {"prompt": (1, 2, 4)}, {"evaluated": 1}], ids=str
)
def test_the_hash_tells_other_work_apart(ask: Ask, changes: dict[str, Any]) -> None:
    assert workload(ask(), **changes).hash != workload(ask()).hash


@pytest.mark.parametrize(
    "options",
    [{"prompt": [1, 2, 3]}, {"temperature": 0.0}, {"ignore_eos": False}, {"stop": "x"}],
    ids=str,
)
def test_the_hash_does_not_tell_how_the_same_work_was_written(
    ask: Ask, options: dict[str, Any]
) -> None:
    assert workload(ask(**options)).hash == workload(ask()).hash


def test_the_hash_knows_the_order_of_requests(ask: Ask) -> None:
    first = RecordedRequest.of(ask(), outcome())
    second = RecordedRequest.of(ask(), outcome(tokens=9))

    assert Workload((first, second)).hash != Workload((second, first)).hash


def test_an_application_is_known_by_what_it_was_asked(ask: Ask) -> None:
    unknown = {"prompt": (), "evaluated": None}

    assert workload(ask(prompt="a"), **unknown).hash != workload(ask(prompt="b"), **unknown).hash


def test_a_replay_makes_as_many_tokens_whatever_ended_the_recorded_one(ask: Ask) -> None:
    recorded = RecordedRequest.of(
        ask(max_tokens=50, ignore_eos=False, stop=["x"]), outcome(tokens=7)
    )

    replayed = recorded.replayed()

    assert (replayed.max_tokens, replayed.ignore_eos, replayed.stop) == (7, True, ())


def test_a_replay_leaves_the_end_to_a_grammar(ask: Ask) -> None:
    recorded = RecordedRequest.of(ask(grammar="root ::= [a]"), outcome())

    assert not recorded.replayed().ignore_eos


def test_an_application_is_asked_exactly_the_same_again(ask: Ask) -> None:
    request = ask(max_tokens=None, stop="x")

    assert RecordedRequest.of(request, outcome((), None)).replayed() == request


@pytest.mark.parametrize(
    ("replay", "name", "reason"),
    [
        (outcome(tokens=2), "cut_short", "generation cut short: 2 of 4 output tokens"),
        (outcome(tokens=6), "other_work", "6 output tokens instead of 4"),
        (
            outcome((1, 2)),
            "other_work",
            "the prompt's tokens differ from the recording's, from token 3 on (2 tokens instead of "
            "3)",
        ),
        (
            outcome(evaluated=1),
            "prompt_cached",
            "prompt served from a cache: 1 of its tokens evaluated instead of 3",
        ),
        (
            outcome(evaluated=4),
            "other_work",
            "less of the prompt was cached: 4 of its tokens evaluated instead of 3",
        ),
    ],
    ids=["fewer", "more", "other prompt", "cached", "less cached"],
)
def test_a_replay_that_did_other_work_is_found(
    ask: Ask, replay: Generation, name: str, reason: str
) -> None:
    finding = RecordedRequest.of(ask(), outcome()).why_not_same_work(replay)
    assert finding is not None
    assert (finding.name, finding.severity, finding.text) == (name, "invalid", reason)
    assert finding.evidence


def test_a_replay_that_did_the_same_work_is_not(ask: Ask) -> None:
    assert RecordedRequest.of(ask(), outcome()).why_not_same_work(outcome()) is None


def test_a_summary_counts_requests_and_tokens(ask: Ask) -> None:
    plain = RecordedRequest.of(ask(), outcome())
    kept = RecordedRequest.of(ask(cache="keep", stream=True), outcome(tokens=6))

    assert Workload((plain,)).summary == "1 request, 3 tokens in, 4 out"
    assert workload(ask(), prompt=(1,)).summary == "1 request, 1 token in, 4 out"
    assert Workload((plain, kept)).summary == (
        "2 requests, 6 tokens in, 10 out, cache kept (0 tokens, 6 evaluated), streamed"
    )


def test_a_summary_counts_what_the_cache_held(ask: Ask) -> None:
    kept = RecordedRequest.of(ask(cache="keep"), outcome(evaluated=2))
    assert Workload((kept,)).summary.endswith("cache kept (1 token, 2 evaluated)")
    unknown = RecordedRequest.of(ask(cache="keep"), outcome(evaluated=None))
    assert Workload((kept, unknown)).summary.endswith("cache kept")


def test_a_summary_does_not_count_what_an_application_does_not_tell(ask: Ask) -> None:
    assert workload(ask(), prompt=(), evaluated=None).summary == "1 request, 4 out"


def test_a_recorder_keeps_requests_in_order_and_adds_up_their_time(
    recorder: Recorder, ask: Ask
) -> None:
    recorder(ask(prompt="a"), outcome(tokens=4))
    recorder(ask(prompt="b"), outcome(tokens=2))

    recorded = recorder.workload()

    assert recorded is not None
    assert [request.request.prompt for request in recorded.requests] == ["a", "b"]
    assert recorder.seconds == 6.0


def test_a_recorder_that_heard_nothing_has_no_workload(recorder: Recorder) -> None:
    assert recorder.workload() is None


def test_a_request_without_a_token_makes_a_workload_unmeasurable(ask: Ask) -> None:
    silent = RecordedRequest.of(ask(), outcome(tokens=0))
    good = RecordedRequest.of(ask(), outcome())

    text = Workload((good, silent)).unmeasurable()

    assert text is not None
    assert text.startswith("request 2 of 2 produced no tokens")
    assert Workload((good, replace(good))).unmeasurable() is None
