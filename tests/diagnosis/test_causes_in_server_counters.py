"""Causes of a slow load that the server's own counters show, and silence where nothing is wrong."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.diagnosis.cause import CauseEvidence, FoundCause
from pytest_llmperf.diagnosis.registry import examine
from pytest_llmperf.diagnosis.server_causes import SERVER_CAUSES
from pytest_llmperf.diagnosis.situation import Hardware, Situation, WorkloadSize
from pytest_llmperf.engine.server.fault import FaultKind
from pytest_llmperf.engine.server.load_result import LoadResult, RequestOutcome
from pytest_llmperf.engine.server.schedule import closed
from pytest_llmperf.engine.server.server_side import SeenLevel, ServerSide
from pytest_llmperf.measure.load_metrics import LoadFigures, load_figures
from pytest_llmperf.measure.prompt_stalls import PromptStalls
from pytest_llmperf.session.server_lines import server_lines

#: Counters of a server that keeps up with 100 answers of 50 tokens to prompts of 200.
HEALTHY: dict[str, Any] = {
    "server": "vLLM",
    "readings": 20,
    "failed": 0,
    "running": SeenLevel(8.0, 6.5),
    "waiting": SeenLevel(2.0, 0.1),
    "kv_use": SeenLevel(0.4, 0.3),
    "waiting_share": 0.05,
    "preemptions": 0,
    "prompt_tokens": 20_000,
    "generated_tokens": 5000,
    "cache_hits": 0,
    "cache_queries": 20_000,
}
UNKNOWN = dict.fromkeys(HEALTHY.keys() - {"server", "readings", "failed"})
QUEUED = {
    "waiting": SeenLevel(9.0, 4.2),
    "waiting_share": 0.8,
    "running": SeenLevel(2.0, 2.0),
}

#: A server's counters where they differ from HEALTHY; None: it publishes none.
Counted = dict[str, Any] | None
Look = Callable[..., dict[str, CauseEvidence]]


def outcome(tokens: int | None, fault: FaultKind | None = None) -> RequestOutcome:
    times = array("d", [0.1, 0.2])
    return RequestOutcome(0, 0.0, 0.0, 0.0, 1.0, times, 0.1, 1, tokens, 50, fault=fault)


def load(own: Counted, *, requests: int = 100) -> LoadFigures:
    side = None if own is None else ServerSide(**{**HEALTHY, **own})
    outcomes = tuple(outcome(50) for _ in range(requests))
    return load_figures(
        LoadResult(closed(8, requests=requests), outcomes, (0.0, 9.0), servers={"http://h": side})
    )


def on_replicas(*own: dict[str, Any]) -> LoadFigures:
    sides = (side for counters in own for side in load(counters).servers.values())
    urls = (f"http://h:{number}" for number in range(1, len(own) + 1))
    return replace(load({}), servers=dict(zip(urls, sides, strict=True)))


def situation(
    hardware: Hardware, loads: Sequence[LoadFigures], base: Sequence[LoadFigures] = ()
) -> Situation:
    uses, base_uses = ([figures.use for figures in side] for side in (loads, base))
    return Situation(
        {}, hardware, None, WorkloadSize(0, 50, 0), loads=loads, uses=uses, base_uses=base_uses
    )


def of_server(known: Situation) -> list[FoundCause]:
    return [found for found in examine(known) if found.cause in SERVER_CAUSES]


@pytest.fixture
def evidence_in(hardware: Hardware) -> Look:
    """Evidence of the server's causes, by name, in these loads and one of the base side."""

    def look(*own: Counted, base: Counted = None) -> dict[str, CauseEvidence]:
        loads = [load(counted) for counted in own]
        base_loads = [] if base is None else [load(base)]
        known = situation(hardware, loads, base_loads)
        seen = {found.cause.name: found.evidence for found in examine(known)}
        return {cause.name: seen[cause.name] for cause in SERVER_CAUSES if cause.name in seen}

    return look


@pytest.mark.parametrize(
    "own",
    [
        {},
        UNKNOWN,
        None,
        # Two readings are too few.
        {**QUEUED, "readings": 2},
        # A cache that serves prompts makes nothing slow.
        {"cache_hits": 15_000},
        # Some servers count one token more per answer.
        {"generated_tokens": 5100},
    ],
)
def test_a_load_that_a_server_keeps_up_with_shows_no_cause(evidence_in: Look, own: Counted) -> None:
    assert evidence_in(own) == {}
    assert evidence_in(own, base={"preemptions": 0}) == {}


@pytest.mark.parametrize(
    ("server", "change"),
    [
        ("vLLM", "raise --max-num-seqs; or"),
        ("SGLang", "raise --max-running-requests, or lower --schedule-conservativeness; or"),
        ("llama.cpp", "raise --parallel and --ctx-size, which its slots share"),
    ],
)
def test_a_queue_names_the_limit_of_the_server(evidence_in: Look, server: str, change: str) -> None:
    (found,) = evidence_in({**QUEUED, "server": server}).values()
    assert found.text == (
        "requests waited in the server's queue in 80% of 20 readings, on average 4.2 waiting and 2 "
        "running, at most 2"
    )
    assert found.remedy.change.startswith(change)
    assert found.certain


def test_the_readings_of_all_loads_count_together(evidence_in: Look) -> None:
    (found,) = evidence_in(QUEUED, {**QUEUED, "waiting_share": 0.6}).values()
    assert found.text.startswith("requests waited in the server's queue in 70% of 40 readings")


def test_of_two_sides_both_are_named(evidence_in: Look) -> None:
    assert evidence_in(QUEUED, base={})["requests_queued"].text.endswith("; on the base side in 5%")
    assert evidence_in({"preemptions": 3}, base={})["requests_preempted"].text.endswith(
        "; on the base side 0"
    )


def test_a_queue_for_room_in_the_kv_cache_is_one_cause_whose_remedy_is_room(
    evidence_in: Look,
) -> None:
    (found,) = evidence_in({**QUEUED, "kv_use": SeenLevel(0.99, 0.9)}).values()
    assert found.text.startswith(
        "up to 99% of the KV cache was in use (90% on average), and requests waited in the "
        "server's queue in 80%"
    )
    assert found.remedy.change.startswith("raise --gpu-memory-utilization")
    assert found.certain


def test_a_full_cache_alone_is_worth_a_look_only(evidence_in: Look) -> None:
    (found,) = evidence_in({"kv_use": SeenLevel(0.96, 0.5), "server": "SGLang"}).values()
    assert not found.certain
    assert found.remedy.change.startswith("raise --mem-fraction-static")


def test_preemptions_stand_for_the_queue_and_the_full_cache_that_they_come_with(
    evidence_in: Look,
) -> None:
    found = evidence_in({**QUEUED, "preemptions": 12, "kv_use": SeenLevel(1.0, 0.9)})
    assert list(found) == ["requests_preempted"]
    assert found["requests_preempted"].text == (
        "vLLM counted 12 preemptions: requests lost their place in the KV cache, and what they had "
        "computed was computed again"
    )


def test_fewer_prompts_from_the_cache_than_on_the_base_side(evidence_in: Look) -> None:
    (found,) = evidence_in({"cache_hits": 1000}, base={"cache_hits": 12_000}).values()
    assert found.text == (
        "5% of the prompt tokens came from the server's cache, on the base side 60%"
    )
    assert found.remedy.change.startswith("start vLLM with --enable-prefix-caching")
    assert evidence_in({"cache_hits": 12_000}, base={"cache_hits": 1000}) == {}
    assert evidence_in({"cache_hits": 11_000}, base={"cache_hits": 12_000}) == {}


def test_a_load_whose_prompts_were_not_counted_says_nothing_of_the_cache(
    hardware: Hardware,
) -> None:
    loads = [load({"cache_hits": 5000, "cache_queries": None}), load({"cache_hits": 8000})]
    known = situation(hardware, loads, [load({"cache_hits": 12_000})])
    (found,) = of_server(known)
    share = "40% of the prompt tokens"
    assert found.evidence.text.startswith(f"{share} came from the server's cache, on the base side")
    assert f"{share} from its cache" in server_lines(known.uses)[0]


def test_prompts_that_hold_up_answers_name_the_size_of_their_pieces(hardware: Hardware) -> None:
    def seen(share: float, own: Counted) -> CauseEvidence | None:
        stalls = PromptStalls(share, 0.4, 0.012)
        known = situation(hardware, [replace(load(own), stalls=stalls)])
        evidence = {found.cause.name: found.evidence for found in examine(known)}
        return evidence.get("prompts_stall_answers")

    assert seen(0.05, {}) is None
    much, some = seen(0.4, {}), seen(0.15, None)
    assert much is not None
    assert much.text == (
        "40% of the time between an answer's chunks was lost to others' prompts: the next chunk "
        "took 400 ms while another request waited for its first, 12.0 ms otherwise"
    )
    assert much.remedy.change.startswith("lower --max-num-batched-tokens, which")
    assert much.certain
    assert some is not None
    assert not some.certain
    # Without counters nobody knows which server it is.
    assert "vLLM --max-num-batched-tokens, SGLang --chunked-prefill-size" in some.remedy.change


def test_tokens_that_are_not_the_loads_show_other_clients(evidence_in: Look) -> None:
    (found,) = evidence_in({"generated_tokens": 9000}).values()
    assert found.text == (
        "the server generated 9,000 tokens, but this session asked for only 5,000: another "
        "client uses it"
    )


def test_a_token_more_for_each_answer_is_no_other_clients(hardware: Hardware) -> None:
    """However many answers there are, and however short."""
    use = replace(load({"generated_tokens": 5000}).use, answered=1000, tokens_asked=4000)
    assert of_server(replace(situation(hardware, []), uses=[use])) == []
    (found,) = of_server(replace(situation(hardware, []), uses=[replace(use, answered=500)]))
    assert found.cause.name == "other_traffic"


def test_of_several_servers_the_worst_is_named(hardware: Hardware) -> None:
    known = situation(hardware, [on_replicas({}, QUEUED)])
    texts = {found.cause.name: found.evidence.text for found in examine(known)}
    assert texts["requests_queued"].startswith("http://h:2: requests waited in the server's queue")
    # Each generated as many tokens as the whole load asked for.
    assert "generated 10,000 tokens" in texts["other_traffic"]


@pytest.mark.parametrize(
    ("generated", "name", "text"),
    [
        (
            (5000, 0, 0),
            "replica_idle",
            "http://h:2, http://h:3 served no requests; 1 of 3 replicas served all of them",
        ),
        (
            (4000, 500, 500),
            "replica_overloaded",
            "http://h:1 served 80% of the output tokens, 2.4 times its even share",
        ),
    ],
)
def test_a_replica_that_gets_no_even_share_is_a_cause(
    hardware: Hardware, generated: tuple[int, ...], name: str, text: str
) -> None:
    served = on_replicas(*({"generated_tokens": tokens} for tokens in generated))
    (found,) = of_server(situation(hardware, [served]))
    assert (found.cause.name, found.evidence.text) == (name, text)
    assert "session affinity" in found.evidence.remedy.change
    # A few requests are chance, and requests sent one at a time need only one replica.
    assert of_server(situation(hardware, [replace(served, answered=4)])) == []
    assert of_server(replace(situation(hardware, [served]), loads=[])) == []


def test_replicas_that_share_a_load_are_no_cause(hardware: Hardware) -> None:
    served = on_replicas({"generated_tokens": 2000}, {"generated_tokens": 3000})
    assert of_server(situation(hardware, [served])) == []


def test_failed_requests_count_with_the_tokens_that_they_asked_for() -> None:
    def asked(*outcomes: RequestOutcome) -> int | None:
        schedule = closed(1, requests=len(outcomes))
        return load_figures(LoadResult(schedule, outcomes, (0.0, 1.0))).tokens_asked

    assert asked(outcome(48), outcome(None, "reset")) == 98
    assert asked(outcome(48), outcome(None)) is None
