"""How replicas shared the requests: reported, and told apart from chance."""

from __future__ import annotations

import pytest

from pytest_llmperf.engine.server.counters import ServerCounters
from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.measure.server_use import ReplicaShares, ServerUse
from pytest_llmperf.session.server_lines import server_lines

TOKENS = 50


def side(generated: int | None, before: int = 1000) -> ServerSide | None:
    """Return a replica that generated this many tokens; None: not read after the sample."""
    after = None if generated is None else before + generated
    counted = None if after is None else ServerCounters("vLLM", generated_tokens=after)
    return ServerSide.of(ServerCounters("vLLM", generated_tokens=before), (), counted)


def served(*answers: int) -> ServerUse:
    """Return server use in which each replica answered the given number of requests."""
    tokens = sum(answers) * TOKENS
    sides = {f"http://h:{n}": side(count * TOKENS) for n, count in enumerate(answers, 1)}
    return ServerUse(sides, sum(answers), tokens, tokens)


def shares(*answers: int) -> ReplicaShares:
    found = ReplicaShares.of([served(*answers)])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("chance", "more"),
    [
        # 6 : 2 or more uneven happens by chance in 29% of all cases.
        ((6, 2), (60, 20)),
        ((12, 4), (15, 2)),
        ((8, 2, 2), (16, 4, 4)),
        # Among the replicas that serve at all.
        ((14, 5, 0), (30, 10, 0)),
    ],
)
def test_a_replica_is_overloaded_by_more_than_chance(
    chance: tuple[int, ...], more: tuple[int, ...]
) -> None:
    assert not shares(*chance).is_overloaded
    assert shares(*more).is_overloaded


def test_a_little_more_than_its_even_share_overloads_no_replica() -> None:
    assert not shares(700, 300).is_overloaded


@pytest.mark.parametrize(("chance", "more"), [((8, 0), (9, 0)), ((8, 8, 0), (9, 9, 0))])
def test_a_replica_is_idle_by_more_than_chance(
    chance: tuple[int, ...], more: tuple[int, ...]
) -> None:
    assert shares(*chance).idle == ()
    assert shares(*more).idle == (f"http://h:{len(more)}",)


def test_the_shares_are_said_and_nothing_of_what_to_do() -> None:
    """The causes say what to do."""
    assert server_lines([served(60, 20)])[1:] == (
        "requests by replica, estimated from output tokens: http://h:1 75% (about 60), http://h:2 "
        "25% (about 20)",
    )
    assert len(server_lines([served(60, 0)])) == 2


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (side(-100), "the counters of b fell: it was restarted, or several servers answer there"),
        (side(None), "the counters of b could not be read"),
        (None, "the counters of b could not be read"),
    ],
)
def test_shares_that_are_unknown_say_why(other: ServerSide | None, why: str) -> None:
    uses = [ServerUse({"a": side(100), "b": b}, 4, 200, 200) for b in (side(100), other)]
    assert server_lines(uses)[1:] == (f"how the replicas shared the requests is unknown: {why}",)
