"""Sessions with void loads: each reason is caused for real, and a sound load has none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from plugin_projects import THREE_PAIRS, server_config
from running_servers import simulated_servers

from pytest_llmperf.fitness_checks import CHECKS

pytestmark = pytest.mark.usefixtures("quick_blocks")

TEST = """
@pytest.mark.load({load})
@pytest.mark.first_token(max="60s")
def test_load(llm_engine):
    llm_engine.generate("Hello there", max_tokens={tokens})
"""


@pytest.fixture
def simulator() -> Iterator[Callable[..., str]]:
    with simulated_servers(first=0.05, gap=0.002, cached=0) as start:
        yield start


def measure(project, url: str, load: str, tokens: int = 8, **llm: object) -> tuple[dict, set[str]]:
    """Run the session; return its test, and the names of what made its measurement invalid."""
    project.write(test_it=TEST.format(load=load, tokens=tokens))
    project.configure(server_config({**THREE_PAIRS, "budget": "60s"}, url=url, **llm))
    project.perf()
    (test,) = project.session()["tests"]
    names = {entry["name"] for entry in test["fitness"] if entry["severity"] == "invalid"}
    return test, {name for name in names if CHECKS[name].origin == "measurement"}


def test_a_client_that_cannot_send_in_time_makes_a_load_void(project, quiet_machine, simulator):
    # A client process can send a tenth of that.
    load = "rate=20000, arrivals='constant', requests=400"
    test, invalid = measure(project, simulator(), load, tokens=2)
    assert test["verdict"] == "invalid"
    assert {"client_slip", "rate_not_reached"} <= invalid


def test_a_client_that_computes_all_the_time_makes_a_load_void(project, quiet_machine, simulator):
    # Chunks come as fast as it can take them.
    url = simulator(first=0.0, gap=0.0)
    _, invalid = measure(project, url, "concurrency=8, requests=24", tokens=500)
    assert "client_busy" in invalid


def test_answers_shorter_than_asked_for_make_a_load_void(project, quiet_machine, simulator):
    url = simulator(tokens=3, finish="stop")
    test, invalid = measure(project, url, "concurrency=2, requests=8")
    assert test["verdict"] == "invalid"
    assert "other_lengths" in invalid
    text = "8 of 8 answers do not have the requested length, for example 3"
    assert text in json.dumps(test)


def test_requests_that_are_stuck_make_a_load_void(project, quiet_machine, simulator):
    url = simulator(fault="stall", faulty_share=0.3)
    load = "concurrency=4, requests=20"
    test, invalid = measure(project, url, load, generation_timeout="1s")
    assert test["verdict"] == "invalid"
    assert "failed_requests" in invalid
    assert "_timeout); at most 1% may" in json.dumps(test)


@pytest.mark.parametrize(
    "load", ["rate=5, arrivals='constant', requests=10", "concurrency=2, requests=8"]
)
def test_a_light_load_on_a_sound_server_is_not_void(project, quiet_machine, simulator, load):
    # A busy machine may delay a request by a few hundredths of a second.
    test, invalid = measure(project, simulator(first=0.5), load)
    assert (test["verdict"], invalid) == ("no baseline", set())
