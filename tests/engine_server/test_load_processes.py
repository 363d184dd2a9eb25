"""A load that several processes send."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from ended_processes import wait_until_ended

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.request import build_request
from pytest_llmperf.engine.server.schedule import Schedule, closed, poisson, trace

Clients = Callable[..., EngineClient]
Simulator = Callable[..., str]
Children = Callable[[int], list[psutil.Process]]
REQUESTS = [build_request(prompt=text, max_tokens=3) for text in ("one", "two")]


def senders(client: EngineClient, children: Children) -> list[psutil.Process]:
    """Return the additional processes that send parts of the load."""
    return [child for child in children(client.pid) if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.parametrize("schedule", [poisson(80, seed=2, requests=23), closed(5, requests=23)])
def test_every_request_is_sent_once(
    clients: Clients, simulator: Simulator, schedule: Schedule
) -> None:
    client = clients(url=simulator(first=0.03, gap=0.005), client_processes=3)
    result = client.load(REQUESTS, schedule)
    assert [outcome.number for outcome in result.outcomes] == list(range(23))
    assert all(outcome.is_answered and outcome.tokens == 3 for outcome in result.outcomes)
    begin = result.window[0]
    if schedule.is_open:
        assert [outcome.due - begin for outcome in result.outcomes] == pytest.approx(schedule.due)
    assert result.busy > 0.0
    assert result.clients == 3
    assert result.window[1] == max(outcome.ended for outcome in result.outcomes)


def test_a_trace_is_sent_as_it_states(
    clients: Clients, simulator: Simulator, tmp_path: Path
) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"at": 0}\n{"at": 0.01, "prompt": "own", "max_tokens": 5}\n{"at": 0.02}\n')
    result = clients(url=simulator(), client_processes=2).load(REQUESTS, trace(path))
    assert [outcome.tokens for outcome in result.outcomes] == [3, 5, 3]


def test_prompts_may_come_from_a_cache_only_if_each_request_allows_it(
    clients: Clients, simulator: Simulator
) -> None:
    keeping = [replace(request, cache="keep") for request in REQUESTS]
    client = clients(url=simulator())
    mixed = [keeping[0], REQUESTS[1]]
    for requests, shared in ((keeping, True), (mixed, False), (REQUESTS, False)):
        max_cached = client.load(requests, closed(1, requests=2)).max_cached
        assert (max_cached is None) == shared


def test_more_processes_than_requests_in_flight(clients: Clients, simulator: Simulator) -> None:
    client = clients(url=simulator(), client_processes=4)
    assert len(client.load(REQUESTS, closed(2, requests=7)).outcomes) == 7
    assert len(client.load(REQUESTS, closed(1, requests=2)).outcomes) == 2


def test_a_killed_one_is_told(clients: Clients, simulator: Simulator, children: Children) -> None:
    client = clients(url=simulator(first=5.0), client_processes=2)
    (sender,) = senders(client, children)

    def kill_soon() -> None:
        time.sleep(0.5)
        sender.kill()

    threading.Thread(target=kill_soon).start()
    with pytest.raises(EngineError, match=r"\(llm\.client_processes\) ended"):
        client.load(REQUESTS, closed(2, requests=2))


SENDING = """
import multiprocessing, sys, time
from pytest_llmperf.engine.server.answer import ServerRequest
from pytest_llmperf.engine.server.load_part import LoadPart
from pytest_llmperf.engine.server.load_processes import LoadProcesses
from pytest_llmperf.engine.server.schedule import closed
from pytest_llmperf.engine.server.settings import ServerSettings

processes = LoadProcesses(ServerSettings(sys.argv[1]), 1)
processes.begin([LoadPart((ServerRequest("hi"),), closed(1, requests=1), "shared")])
time.sleep(1.0)
print(multiprocessing.active_children()[0].pid, flush=True)
time.sleep(60)
"""


def test_one_that_is_sending_ends_with_a_killed_parent(simulator: Simulator) -> None:
    command = [sys.executable, "-c", SENDING, simulator(first=50.0)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        sender = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert wait_until_ended(sender)


@pytest.mark.parametrize("how", ["close", "kill"])
def test_they_end_with_the_engine(
    clients: Clients, simulator: Simulator, children: Children, how: str
) -> None:
    client = clients(url=simulator(), client_processes=3)
    further = senders(client, children)
    assert len(further) == 2
    getattr(client, how)()
    assert all(map(wait_until_ended, further))
