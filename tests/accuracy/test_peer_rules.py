"""Rules of other tools, run by their own code; tools that are not installed are named."""

from __future__ import annotations

import numpy as np
import pytest
from gate_checks import Settings
from gate_peer_rules import Missing, Peer, peers
from gate_peers import interleaved_pair, stored_pair
from gate_regimes import REGIMES

FLAT = np.ones((5, 3))


#: pytest-benchmark always; the others where the bench extra is installed.
INSTALLED = {peer.name: peer for peer in peers() if isinstance(peer, Peer)}


def rule(name: str) -> Peer:
    return INSTALLED[name]


@pytest.mark.parametrize("field", ["mean", "median"])
def test_pytest_benchmark_calls_more_than_five_per_cent(field: str) -> None:
    flags = rule(f"pytest-benchmark {field}:5%").flags
    assert flags(FLAT, FLAT * 1.06)
    assert not flags(FLAT, FLAT * 1.04)


def test_a_stall_moves_the_mean_and_not_the_median() -> None:
    stalled = FLAT.copy()
    stalled[0, 0] = 4.0
    assert rule("pytest-benchmark mean:5%").flags(FLAT, stalled)
    assert not rule("pytest-benchmark median:5%").flags(FLAT, stalled)


@pytest.mark.parametrize("name", INSTALLED)
def test_rules_call_a_clear_slowdown_and_nothing_else(name: str, rng: np.random.Generator) -> None:
    flags = rule(name).flags
    base, candidate = np.exp(rng.normal(0.0, 0.003, (2, 5, 3)))
    assert flags(base, candidate * 1.3)
    assert not flags(base, candidate)


if "benchmatrix 5%, BCa" in INSTALLED:

    def test_a_tool_that_corrects_for_many_checks_asks_for_more(rng: np.random.Generator) -> None:
        peer = rule("benchmatrix 5%, BCa")
        base, candidate = np.exp(rng.normal(0.0, 0.01, (2, 200, 5, 3)))
        single, many = peer.in_session(1), peer.in_session(1000)
        pairs = list(zip(base[:40], candidate[:40] * 1.07, strict=True))
        assert sum(many(a, b) for a, b in pairs) < sum(single(a, b) for a, b in pairs)


def test_a_tool_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert Missing("asv") in peers()


def test_stored_sessions_differ_and_interleaved_sides_do_not(rng: np.random.Generator) -> None:
    settings = Settings(400, 1)
    spreads = []
    for design in (stored_pair, interleaved_pair):
        base, candidate = design(rng, REGIMES[0], settings.repetitions, 1, 3)
        spreads.append(float((candidate.mean(axis=(1, 2, 3)) - base.mean(axis=(1, 2, 3))).std()))
    assert spreads[0] > 2 * spreads[1]
