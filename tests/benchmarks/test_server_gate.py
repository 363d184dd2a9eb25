"""The server gate benchmark: the sessions and checks it counts, and the rows it prints."""

from __future__ import annotations

from typing import Any

import pytest
from served_project import Served, listening
from server_gate import outcome_of, planted, row


def metric(name: str, verdict: str, change: float | None = 0.01, gated: bool = True) -> Any:
    return {
        "name": name,
        "verdict": verdict,
        "change": change,
        "gated": gated,
        "explanation": f"{name}: {verdict}",
    }


def outcome(verdict: str, *metrics: Any, pairs: int = 6, processes: int = 6) -> dict[str, Any]:
    test = {"verdict": verdict, "metrics": metrics, "pairs": pairs, "processes": processes}
    return {**outcome_of("same server", 1, {"tests": [test]}, 30.0), "planted": None}


def test_only_gated_checks_are_called():
    counted = outcome(
        "regressed",
        metric("tokens_per_sec", "regressed", 0.07),
        metric("inter_token", "regressed", gated=False),
        metric("first_token", "pass"),
    )
    assert (counted["verdict"], counted["called"]) == ("regressed", ["tokens_per_sec"])
    assert counted["changes"] == {"tokens_per_sec": 0.07, "first_token": 0.01}


def test_blocks_count_where_there_are_no_pairs():
    assert outcome("pass", pairs=0, processes=9)["samples"] == 9


def test_sessions_that_were_not_valid_are_no_trials():
    rate = "tokens_per_sec"
    outcomes = [
        outcome("pass", metric(rate, "pass", 0.01)),
        outcome("improved", metric(rate, "improved", -0.02)),
        outcome("inconclusive", metric(rate, "inconclusive", 0.03)),
        outcome("regressed", metric(rate, "regressed", 0.06)),
        # A check is called, but the session is not judged by it.
        outcome("invalid", metric(rate, "regressed", 0.5)),
    ]
    words = row("same server", outcomes).split()
    assert words[:5] == ["same", "server", "1", "of", "4"]
    assert words[5:10] == ["(", "0.6%", "to", "80.6%)", "2"]
    assert words[10:12] == ["1", "1"]
    assert words[-2:] == ["-", "+2.0%"]


def test_what_a_relay_did_to_the_base_is_not_planted():
    base = [{"chunks": 9, "arrived": 1.0, "left": 1.01}]
    candidate = [{"chunks": 9, "arrived": 1.0, "left": 1.0706}]
    assert planted(candidate, base) == pytest.approx(0.06)
    assert planted(candidate) == pytest.approx(0.0706)
    assert planted([], base) is None


def test_a_relay_stands_before_the_server_where_a_share_is_planted(tmp_path):
    served = Served(tmp_path / "m.gguf")
    assert "{port}" in served.command()
    command = served.command(0.06, tmp_path / "log")
    before, after = command[: command.index("--")], command[command.index("--") :]
    assert ("{port}" in before, "{port}" in after, "{inner}" in after) == (True, False, True)
    assert before[before.index("--share") + 1] == "6.0000%"
    assert listening(command, 8080)[3] == "8080"
