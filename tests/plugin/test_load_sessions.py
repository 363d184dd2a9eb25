"""Sessions of tests under load: a real server, and a simulated one that misbehaves as asked."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from plugin_projects import LATE_CLIENT, all_output, server_config
from running_servers import REAL_SERVERS, real_server, simulated_servers

pytestmark = pytest.mark.usefixtures("quick_blocks")

FOUR_SLOTS = ("--ctx-size", "1024", "--parallel", "4")
PERF = {"processes": 3, "max_processes": 4, "max_pairs": 3, "budget": "60s", "fitness": LATE_CLIENT}
UNCHECKED = "whether the server was still warming up was not checked"
TEST = """
@pytest.mark.load({load})
{markers}
def test_load(llm_engine):
    llm_engine.generate("Hello there", max_tokens={tokens})
"""
ONE_AT_A_TIME = """
@pytest.mark.end_to_end(max="9s")
def test_answer(llm_engine):
    llm_engine.generate("Hello there", max_tokens=4)
"""


config = partial(server_config, PERF)


@pytest.fixture
def simulator() -> Iterator[Callable[..., str]]:
    with simulated_servers(first=0.01, gap=0.002, cached=0) as start:
        yield start


def write(project, load: str, *markers: str, tokens: int = 8) -> None:
    lines = "\n".join(f"@pytest.mark.{marker}" for marker in markers)
    project.write(test_it=TEST.format(load=load, markers=lines, tokens=tokens))


def ask(url: str) -> None:
    """Send a request by hand, and wait for the end of its answer."""
    body = json.dumps({"prompt": "Hello", "max_tokens": 1}).encode()
    with urllib.request.urlopen(f"{url}/v1/completions", body) as answer:
        answer.read()


def metrics(project) -> dict[str, dict]:
    (test,) = project.session()["tests"]
    return {metric["name"]: metric for metric in test["metrics"]}


@pytest.mark.parametrize("program", REAL_SERVERS)
def test_a_started_server_is_gated_under_load(project, quiet_machine, program):
    limits = ("request_latency(max='60s')", "requests_per_sec(min=0.5)", "error_rate(max='50%')")
    write(project, "concurrency=4, requests=12", *limits)
    project.configure(config(start=real_server(*FOUR_SLOTS, "--metrics", program=program)))
    result = project.perf("--llmperf-record")
    result.assert_outcomes(passed=1)
    text = all_output(result)
    assert re.search(
        "load: 36 requests in 3 loads, none failed; since sending: first token [^;]+ and request "
        "latency [^;]+; .*the client used [^;]+% of a core .ceiling: about [^;]+ such requests/s.",
        text,
    )
    (test,) = project.session()["tests"]
    assert test["workload"]["summary"].endswith("under load: 4 in flight, 12 requests")
    load = test["load"]
    assert (load["requests"], load["loads"], load["faults"]) == (36, 3, {})
    assert load["client_processes"] == 1
    assert load["client_ceiling"] > 0.5
    assert load["request_latency_since_sent"] > load["first_token_since_sent"] > 0
    assert load["pattern"] == "4 in flight, 12 requests"
    # Each sample's server has another port; these are not replicas.
    (counters,) = load["server"]
    assert counters.startswith("llama.cpp's own counters: ")
    generated = [c["generated_tokens"] for counts in load["counters"] for c in counts.values()]
    assert generated == [12 * 8] * 3
    figures = metrics(project)
    assert figures["requests_per_sec"]["unit"] == "/s"
    # Eight tokens of each answer.
    share = figures["output_tokens_per_sec"]["value"] / figures["requests_per_sec"]["value"]
    assert share == pytest.approx(8)
    assert "end_to_end" not in figures

    # Without targets the baseline judges, as for any other test.
    write(project, "concurrency=4, requests=12", "request_latency(tolerance='90%')")
    project.perf().assert_outcomes(passed=1)
    assert metrics(project)["request_latency"]["baseline"]
    # Another load is other work.
    write(project, "concurrency=2, requests=12", "request_latency(tolerance='90%')")
    project.perf()
    assert project.session()["tests"][0]["verdict"] == "workload changed"


def test_a_bare_load_gates_throughput_first_token_and_latency(project, quiet_machine, simulator):
    write(project, "concurrency=2, requests=8")
    project.configure(config(url=simulator()))
    project.perf()
    gated = [name for name, metric in metrics(project).items() if metric["gated"]]
    assert gated == ["output_tokens_per_sec", "first_token", "request_latency"]


def test_a_server_that_cannot_keep_up_makes_a_load_void(project, quiet_machine, simulator):
    # One request at a time, and each takes 20 ms: four times too long.
    write(project, "rate=200, arrivals='constant', requests=100", tokens=6)
    project.configure(config(url=simulator("--slots", "1", "--metrics", "vllm")))
    project.perf()
    (test,) = project.session()["tests"]
    assert test["verdict"] == "invalid"
    assert "the server can't keep up" in json.dumps(test)
    # Its counters say why.
    assert [cause["name"] for cause in test["diagnosis"]] == ["requests_queued"]


def test_a_test_may_mean_to_ask_more_than_a_server_can_do(project, quiet_machine, simulator):
    load = "rate=200, arrivals='constant', requests=100, over_saturated='note'"
    write(project, load, "request_latency(max='60s')", tokens=6)
    project.configure(config(url=simulator("--slots", "1")))
    project.perf().assert_outcomes(passed=1)
    (test,) = project.session()["tests"]
    assert {item["name"]: item["severity"] for item in test["fitness"]}["over_saturated"] == "note"


def test_gaps_are_named_after_chunks(project, quiet_machine, simulator):
    write(project, "concurrency=2, requests=8", "inter_token(max='9s')")
    project.configure(config(url=simulator()))
    result = project.perf("--llmperf-html", "page.html")
    result.assert_outcomes(passed=1)
    assert metrics(project)["inter_token"]["label"] == "chunk gap"
    shown = "\n".join(result.outlines) + (project.path / "page.html").read_text()
    assert "chunk gap" in shown
    assert "inter-token" not in shown


def test_goodput_is_the_share_of_requests_within_all_limits(project, quiet_machine, simulator):
    write(project, "rate=40, requests=40", "goodput(first_token='5s', min='90%')")
    project.configure(config(url=simulator()))
    project.perf().assert_outcomes(passed=1)
    assert metrics(project)["goodput"]["value"] == 1.0
    write(project, "rate=40, requests=40", "goodput(first_token='5ms', min='90%')")
    project.perf().assert_outcomes(failed=1)
    assert metrics(project)["goodput"]["verdict"] == "missed"


@pytest.mark.parametrize(
    ("load", "plan", "reason"),
    [
        ("concurrency=4, requests=40", {"fault": "status", "faulty_share": 0.3}, "requests failed"),
        ("concurrency=4, requests=8", {"cached": 3}, "such as 3 of 5 tokens; llm.cache: shared"),
    ],
)
def test_what_makes_a_load_void_is_said(project, quiet_machine, simulator, load, plan, reason):
    write(project, load)
    project.configure(config(url=simulator(**plan)))
    assert project.perf().ret != 0
    (test,) = project.session()["tests"]
    assert test["verdict"] in ("invalid", "error")
    assert reason in json.dumps(test)


def test_a_server_that_warms_up_is_not_judged(project, quiet_machine, simulator):
    write(project, "rate=40, requests=20", "first_token(max='60s', tolerance='10%')")
    url = simulator(cold=0.2)
    project.configure(config(url=url))
    numbers = ("processes", "max_processes", "max_pairs")
    blocks = [f"--llmperf-set=perf.{name}=5" for name in numbers]
    project.perf(*blocks)
    (test,) = project.session()["tests"]
    assert test["verdict"] == "invalid"
    assert "the server was still warming up: first token went from" in json.dumps(test)
    assert UNCHECKED not in json.dumps(test)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, [url] * 200))
    project.perf(*blocks).assert_outcomes(passed=1)


def test_too_few_blocks_to_tell_whether_a_server_warms_up_are_named(
    project, quiet_machine, simulator
):
    write(project, "concurrency=2, requests=8", "request_latency(max='9s')", tokens=4)
    project.configure(config(url=simulator()))
    text = all_output(project.perf("-v"))
    assert f"{UNCHECKED}: that needs 5 blocks" in text
    project.configure(config(url=simulator()), "other.yaml")
    # Both sides of a pair warm up alike.
    project.perf("--llmperf-against-config", "other.yaml")
    assert UNCHECKED not in json.dumps(project.session())


def test_a_test_may_accept_failing_requests(project, quiet_machine, simulator):
    write(project, "concurrency=4, requests=40, max_errors='90%'", "request_latency(max='9s')")
    project.configure(config(url=simulator(fault="status", faulty_share=0.3)))
    project.perf().assert_outcomes(passed=1)
    load = project.session()["tests"][0]["load"]
    assert 0 < load["faults"]["status"] < load["requests"]


def test_two_servers_are_compared_under_the_same_load(project, quiet_machine, simulator):
    write(project, "rate=50, requests=20", "first_token()", tokens=4)
    project.configure(config(url=simulator()))
    project.configure(config(url=simulator(first=0.05)), "other.yaml")
    project.perf("--llmperf-against-config", "other.yaml")
    (test,) = project.session()["tests"]
    assert test["pairs"] == 3
    assert metrics(project)["first_token"]["change"] < -0.5


def test_a_server_over_its_limit_is_slower_not_void_if_the_other_side_keeps_up(
    project, quiet_machine, simulator
):
    limit = "first_token(max='1ms')"
    write(project, "rate=200, arrivals='constant', requests=100", limit, tokens=6)
    counted = ("--metrics", "vllm")
    project.configure(config(url=simulator("--slots", "1", *counted)))
    project.configure(config(url=simulator(*counted)), "other.yaml")
    project.perf("--llmperf-against-config", "other.yaml")
    (test,) = project.session()["tests"]
    assert test["pairs"] == 3
    assert metrics(project)["first_token"]["change"] > 0.5
    (cause,) = test["diagnosis"]
    assert cause["name"] == "requests_queued"
    assert cause["evidence"].endswith("; on the base side in 0%")


def test_a_missed_limit_is_explained_by_the_servers_own_counters(project, quiet_machine, simulator):
    write(project, "concurrency=8, requests=12", "request_latency(max='1ms')", tokens=4)
    project.configure(config(url=simulator("--slots", "2", "--metrics", "vllm", first=0.4)))
    result = project.perf("--llmperf-html", "page.html")
    result.assert_outcomes(failed=1)
    text = all_output(result)
    assert "vLLM's own counters: up to 2 requests running" in text
    seen = r"requests waited in the server's queue in [\d.]+% of"
    # Only the failing test says it.
    assert len(re.findall(seen, text)) == 1
    assert re.search(f"why it may be slow: - requests wait in the server's queue: {seen}", text)
    assert "change: raise --max-num-seqs" in text
    # The doctor can't try settings of a server.
    assert "to measure each change" not in text
    (test,) = project.session()["tests"]
    (cause,) = test["diagnosis"]
    assert cause["name"] == "requests_queued"
    assert test["doctor_command"] is None
    assert test["load"]["server"][0].startswith("vLLM's own counters")
    assert "Change: raise --max-num-seqs" in (project.path / "page.html").read_text()


def test_a_server_without_counters_has_none_of_their_causes(project, quiet_machine, simulator):
    write(project, "concurrency=8, requests=12", "request_latency(max='1ms')", tokens=4)
    project.configure(config(url=simulator("--slots", "2", first=0.1)))
    project.perf().assert_outcomes(failed=1)
    (test,) = project.session()["tests"]
    assert test["load"]["server"] == test["diagnosis"] == []


def test_a_real_server_with_too_few_slots_says_so(project, quiet_machine):
    """With llama.cpp's own server: its real counters and its real option."""
    write(project, "concurrency=6, duration='4s'", "request_latency(max='1ms')", tokens=128)
    project.configure(config(start=real_server("--ctx", "1024", "--parallel", "1", "--metrics")))
    project.perf().assert_outcomes(failed=1)
    causes = {cause["name"]: cause for cause in project.session()["tests"][0]["diagnosis"]}
    assert " waiting and 1 running, at most 1" in causes["requests_queued"]["evidence"]
    assert causes["requests_queued"]["change"].startswith("raise --parallel and --ctx-size")


def test_replicas_are_told_apart_and_counted(project, quiet_machine, simulator):
    """One of two replicas gets everything; other replicas or routing don't match the baseline."""
    busy, idle = simulator("--metrics", "vllm"), simulator("--metrics", "vllm")
    write(project, "concurrency=2, requests=8", "request_latency(max='9s')", tokens=4)
    project.configure(config(url=f"{busy}/v1", replicas=[busy, idle]))
    result = project.perf("--llmperf-record")
    result.assert_outcomes(passed=1)
    lines = project.session()["tests"][0]["load"]["server"]
    assert lines[0].startswith("vLLM's own counters, each of 2: ")
    assert lines[1] == (
        f"requests by replica, estimated from output tokens: {busy} 100% (about 24), {idle} 0% "
        "(about 0)"
    )
    assert lines[2:] == []
    (path,) = project.baselines()
    name = json.loads(path.read_text())["model"]["name"]
    assert name == f"simulated, 2 replicas behind {busy}/v1"

    write(project, "concurrency=2, requests=8", "request_latency()", tokens=4)
    for other, now in (
        ({"replicas": [busy]}, f"1 replica behind {busy}/v1"),
        ({"replicas": [busy, idle], "routing": "by cookie"}, f"{busy}/v1 (routing: by cookie)"),
    ):
        project.configure(config(url=f"{busy}/v1", **other))
        text = all_output(project.perf())
        assert f"does not match: model: base simulated, 2 replicas behind {busy}/v1" in text
        assert now in text
        assert project.session()["tests"][0]["verdict"] == "no baseline"


@pytest.mark.parametrize("is_load", [True, False])
def test_a_server_that_is_restarted_meanwhile_makes_a_session_invalid(
    project, quiet_machine, simulator, is_load
):
    if is_load:
        write(project, "concurrency=2, requests=8", "request_latency(max='9s')", tokens=4)
    else:
        project.write(test_it=ONE_AT_A_TIME)
    project.configure(config(url=simulator("--metrics", "vllm", forgets_at=20)))
    project.perf()
    (test,) = project.session()["tests"]
    assert test["verdict"] == "invalid"
    assert "it was restarted since the session's first sample" in json.dumps(test)


def test_a_server_that_runs_another_model_in_a_later_sample_is_an_error(
    project, quiet_machine, simulator
):
    write(project, "concurrency=2, requests=8", "request_latency(max='9s')", tokens=4)
    project.configure(config(url=simulator(renamed_after=2)))
    project.perf()
    (test,) = project.session()["tests"]
    assert test["verdict"] == "error"
    assert "the server changed during the session: simulated at http://" in json.dumps(test)


def test_a_trace_is_replayed_at_its_own_times(project, quiet_machine, simulator):
    lines = [{"at": 0}, {"at": 0.1, "prompt": "Another one", "max_tokens": 4}, {"at": 0.2}]
    (project.path / "trace.jsonl").write_text("\n".join(map(json.dumps, lines)))
    write(project, "trace='trace.jsonl'", "requests_per_sec(min=1)")
    project.configure(config(url=simulator()))
    project.perf().assert_outcomes(passed=1)
    (test,) = project.session()["tests"]
    assert test["load"]["pattern"] == "3 requests of a trace over 0.2 s"
    assert test["load"]["requests"] == 9
