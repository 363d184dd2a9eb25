"""The measured cost of a load tool, and GuideLLM's figures for requests with due times."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from load_tools import Paced, paced_of
from null_server import answered_by, null_server
from server_truth import stop_in_latencies
from tool_cost import Cost, Look, cost_between, cost_of
from tools_env import SetupError

SENDING = """
import json, sys, urllib.request
url, requests = sys.argv[1], int(sys.argv[2])
for _ in range(requests):
    body = json.dumps({"max_completion_tokens": 1, "messages": []}).encode()
    with urllib.request.urlopen(f"{url}/v1/chat/completions", body) as answer:
        assert b"[DONE]" in answer.read()
"""


def test_only_the_middle_of_a_load_counts():
    """Starting takes a tool seconds, and so does what it writes in the end."""
    looks = [
        Look(0.0, 0.0, 0),
        Look(5.0, 9.0, 0),
        Look(6.0, 9.5, 200),
        Look(7.0, 10.1, 400),
        Look(8.0, 10.7, 900),
        Look(20.0, 30.0, 1000),
    ]
    assert cost_between(looks, 1000) == Cost(pytest.approx(350.0), pytest.approx(1.2 / 700))


@pytest.mark.parametrize("answered", [(0, 0, 1000), (300, 300, 300)])
def test_a_load_that_is_over_at_once_has_no_cost(answered):
    looks = [Look(float(at), float(at), number) for at, number in enumerate(answered)]
    with pytest.raises(SetupError, match="1000 requests are too few to be looked at twice"):
        cost_between(looks, 1000)


def test_a_tool_is_measured_while_it_sends(tmp_path: Path):
    with null_server() as url:
        command = [sys.executable, "-c", SENDING, url, "1500"]
        cost = cost_of(command, 1500, lambda: answered_by(url), tmp_path)
    assert 0.0 < cost.cpu < 0.1
    assert cost.requests_per_sec > 10


@pytest.mark.parametrize(
    ("code", "text"),
    [("print('no such option'); raise SystemExit(2)", "status 2, 0 of 5"), ("pass", "0 of 5")],
)
def test_a_tool_that_fails_is_told_by_its_last_lines(tmp_path: Path, code: str, text: str):
    with pytest.raises(SetupError, match=text) as caught:
        cost_of([sys.executable, "-c", code], 5, lambda: 0, tmp_path)
    assert ("no such option" in str(caught.value)) == ("no such" in code)


def test_guidellms_requests_have_a_due_time_of_their_own():
    timings = {"targeted_start": 100.0, "request_start": 101.5}
    request: dict[str, Any] = {"info": {"timings": timings}, "time_to_first_token_ms": 250.0}
    paced = paced_of({"benchmarks": [{"requests": {"successful": [request], "errored": []}}]})
    assert paced == [Paced(100.0, 101.5, 101.75)]


def test_a_stop_is_shown_by_latencies_of_at_least_its_rest():
    assert stop_in_latencies([(1.0, 1.2), (1.5, 0.1), (1.8, 0.3)], 2.0) == (2, 0.3)
