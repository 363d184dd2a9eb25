"""Sessions with servers whose caches serve prompts, or that do not say whether they do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from plugin_projects import LATE_CLIENT, THREE_PAIRS, all_output, server_config
from running_servers import real_server, simulated_servers

pytestmark = pytest.mark.usefixtures("quick_blocks")

LOAD = "@pytest.mark.load(concurrency=1, requests=8)"
TEST = """
{load}
@pytest.mark.first_token({limit})
def test_answer(llm_engine):
    llm_engine.generate("Tell me about the caches of servers", max_tokens=4)
"""


@pytest.fixture
def simulator() -> Iterator[Callable[..., str]]:
    with simulated_servers(first=0.02, gap=0.002, cached=0) as start:
        yield start


def config(
    fitness: dict[str, str] | None = None, perf: dict[str, str] | None = None, **llm: object
) -> str:
    severities = {**LATE_CLIENT, **(fitness or {})}
    settings = {**THREE_PAIRS, "budget": "60s", "fitness": severities, **(perf or {})}
    return server_config(settings, **llm)


def write(project, load: str = LOAD, limit: str = "max='60s'") -> None:
    project.write(test_it=TEST.format(load=load, limit=limit))


def measured(project, *arguments: str) -> tuple[dict, list[str]]:
    """Run the session; return its test, and the names of its findings about caches."""
    project.perf(*arguments)
    (test,) = project.session()["tests"]
    names = [finding["name"] for finding in test["fitness"]]
    return test, [name for name in names if "cache" in name]


def compared(project, candidate: str, base: str) -> tuple[dict, list[str]]:
    project.configure(candidate)
    project.configure(base, "other.yaml")
    return measured(project, "--llmperf-against-config", "other.yaml")


@pytest.mark.parametrize("load", [LOAD, ""])
def test_servers_whose_caches_serve_other_shares_are_not_compared(
    project, quiet_machine, simulator, load
):
    write(project, load, limit="")
    urls = simulator(cached=4), simulator(cached=0)
    test, names = compared(project, *(config(url=url, cache="shared") for url in urls))
    assert (test["verdict"], names) == ("invalid", ["cache_hits_differ"])
    assert (
        "caches served 80% of the candidate's prompt tokens and 0% of the base side's, so the two "
        "sides did different work"
    ) in json.dumps(test)


def test_servers_whose_counters_tell_of_other_shares_are_not_compared(
    project, quiet_machine, simulator
):
    write(project, load="", limit="")
    urls = (simulator("--metrics", "vllm", cached=tokens, cached_told=False) for tokens in (4, 0))
    test, names = compared(project, *(config(url=url, cache="shared") for url in urls))
    assert (test["verdict"], names) == ("invalid", ["cache_hits_differ"])


def test_counters_of_a_server_that_both_sides_ask_by_turns_are_not_read(
    project, quiet_machine, simulator
):
    """Each block's counters would count the other side's requests as somebody else's."""
    write(project, load="", limit="max='1ms'")
    url = simulator("--metrics", "vllm", cached_told=False)
    for name, seed in (("config.yaml", 1), ("other.yaml", 2)):
        project.configure(config(perf={"turns": "iterations"}, url=url, seed=seed), name)
    # In the first pair the blocks run one after the other.
    test, names = measured(project, "--llmperf-against-config", "other.yaml")
    assert (test["verdict"], names) == ("missed", ["cache_unknown"])
    assert "its answers do not say; start vLLM" in json.dumps(test["fitness"])
    assert "another client uses it" not in json.dumps(test)


@pytest.mark.parametrize("load", [LOAD, ""])
def test_servers_whose_caches_serve_the_same_are_compared(project, quiet_machine, simulator, load):
    write(project, load, limit="")
    urls = simulator(cached=4), simulator(cached=4, first=0.05)
    test, names = compared(project, *(config(url=url, cache="shared") for url in urls))
    assert (test["pairs"], names) == (3, [])
    assert test["verdict"] != "invalid"


def test_a_real_server_that_keeps_prompts_is_not_compared_with_one_that_does_not(
    project, quiet_machine
):
    write(project, limit="")
    start = real_server("--ctx", "512")
    sides = (config(start=start, cache=use) for use in ("shared", "unique"))
    test, names = compared(project, *sides)
    assert (test["verdict"], names) == ("invalid", ["cache_hits_differ"])


def test_a_difference_of_caches_is_judged_where_that_is_asked(project, quiet_machine, simulator):
    write(project, limit="")
    urls = simulator(cached=4), simulator(cached=0, first=0.05)
    fitness = {"cache_hits_differ": "note"}
    test, names = compared(project, *(config(fitness, url=url, cache="shared") for url in urls))
    assert (test["pairs"], names) == (3, ["cache_hits_differ"])
    assert test["verdict"] != "invalid"


def test_a_server_that_says_nothing_of_its_cache_is_said_to(project, quiet_machine, simulator):
    write(project)
    project.configure(config(url=simulator(cached_told=False)))
    result = project.perf()
    result.assert_outcomes(passed=1)
    text = all_output(result)
    assert "how much of the prompts the server took from its cache is unknown: neither" in text


def test_answers_one_at_a_time_that_say_nothing_of_the_cache_are_noted(
    project, quiet_machine, simulator
):
    write(project, load="")
    project.configure(config(url=simulator(cached_told=False)))
    test, names = measured(project)
    assert (test["verdict"], names) == ("no baseline", ["cache_unknown"])


def test_a_cache_that_only_the_counters_tell_of_makes_a_load_void(
    project, quiet_machine, simulator
):
    write(project)
    project.configure(config(url=simulator("--metrics", "vllm", cached=3, cached_told=False)))
    test, names = measured(project)
    assert (test["verdict"], names) == ("invalid", ["prompt_cached"])
    text = "by the server's own counters 60% of the prompt tokens came from a cache, about 3 of"
    assert text in json.dumps(test)


@pytest.mark.parametrize("load", [LOAD, ""])
def test_a_cache_that_counters_clear_is_nothing_to_say(project, quiet_machine, simulator, load):
    write(project, load)
    project.configure(config(url=simulator("--metrics", "vllm", cached_told=False)))
    test, names = measured(project)
    assert (test["verdict"], names) == ("no baseline", [])


@pytest.mark.parametrize("use", ["unique", "shared"])
def test_a_real_server_tells_what_its_cache_serves(project, quiet_machine, use):
    write(project)
    project.configure(config(start=real_server("--ctx", "512"), cache=use))
    test, names = measured(project)
    assert (test["verdict"], names) == ("no baseline", [])
