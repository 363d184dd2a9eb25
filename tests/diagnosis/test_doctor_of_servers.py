"""The command llmperf doctor with a server: who answers, a short load, and causes from counters."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from doctor_runs import Run
from running_servers import real_server, simulated_servers

from pytest_llmperf.cli import main
from pytest_llmperf.measure.replication import BLOCK

#: A load of five seconds.
BUDGET = ("--budget", "30s")


@pytest.fixture
def doctor(
    run: Run, monkeypatch: pytest.MonkeyPatch, quiet_machine: None
) -> Callable[..., tuple[int, dict]]:
    """Run the command inside this process with this llm section; returns status and JSON."""

    # A simulated server has nothing to recover from before a block.
    monkeypatch.setitem(vars(BLOCK), "pause_seconds", 0.02)

    def start(llm: dict, *arguments: str, **perf: object) -> tuple[int, dict]:
        section = {"engine": "server", "api": "completions", **llm}
        text = json.dumps({"llm": section, "perf": perf})
        (run.folder / "config.yaml").write_text(text)
        monkeypatch.chdir(run.folder)
        status = main(["doctor", *BUDGET, *arguments, "--json", "found.json"])
        return status, run.found

    return start


@pytest.fixture
def simulator() -> Iterator[Callable[..., str]]:
    with simulated_servers(first=0.1, gap=0.002, cached=0) as start:
        yield start


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_real_server_with_one_slot_has_a_second_request_wait(
    doctor, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = doctor({"start": real_server("--ctx", "2048", "--metrics", "--parallel", "1")})
    text = said(capsys)
    assert status == 1
    assert [cause["name"] for cause in found["findings"]] == ["requests_queued"]
    assert found["findings"][0]["change"].startswith("raise --parallel and --ctx-size")
    assert found["server"]["slots"] == 1
    assert found["server"]["load"]["concurrency"] == 2
    assert text.startswith("1 cause found machine ")
    assert ", 1 slot; server of " in text
    # Alone first, then beside another.
    assert "(1 request, 64 out; 3 processes)" in text
    assert "load 2 in flight, 5 s: requests/s " in text
    assert "counters llama.cpp: up to 1 request running (mean " in text
    assert "note: not checked, because a server does not report them: its build" in text
    # Causes that only llama-cpp-python has are not looked for.
    assert "n_gpu_layers" not in text
    assert "roofline" not in text


def test_a_real_server_with_a_slot_for_each_request_has_no_finding(doctor) -> None:
    status, found = doctor({"start": real_server("--ctx", "2048", "--metrics", "--parallel", "4")})
    assert found["server"]["load"]["concurrency"] == 4
    assert found["findings"] == []
    assert status == 0


def test_long_prompts_hold_up_the_answers_of_a_real_server(doctor) -> None:
    server = real_server("--metrics", "--parallel", "3", "--ctx", "8192")
    _, found = doctor({"start": server}, "--prompt-tokens", "400", "--max-tokens", "120")
    (cause,) = [*found["findings"], *found["not_tried"]]
    assert cause["name"] == "prompts_stall_answers"
    assert cause["change"].startswith("lower --batch-size")


@pytest.mark.parametrize(
    ("dialect", "option"), [("vllm", "--max-num-seqs"), ("sglang", "--max-running-requests")]
)
def test_a_server_that_runs_already_is_asked_for_its_counters(
    doctor, simulator, capsys: pytest.CaptureFixture[str], dialect: str, option: str
) -> None:
    url = simulator("--slots", "2", "--metrics", dialect)
    targets = {"first_token": "150ms", "request_latency_p90": "1ms"}
    status, found = doctor({"url": url}, "--concurrency", "6", targets=targets)
    text = said(capsys)
    assert status == 1
    (cause,) = found["findings"]
    assert cause["name"] == "requests_queued"
    assert cause["theme"] == "server"
    assert cause["change"].startswith(f"raise {option}")
    # It may be on another machine, and can't be restarted.
    assert "client " in text
    assert "3 blocks)" in text
    assert "now 0 requests running, 0 waiting" in text
    assert "load 6 in flight, 5 s" in text
    assert "targets first token <=150 ms: 1" in text
    assert " under load (missed); request latency p90 <=1 ms: " in text


def test_a_replica_that_serves_nothing_is_a_cause(doctor, simulator) -> None:
    url, idle = simulator("--metrics", "vllm"), simulator("--metrics", "vllm")
    status, found = doctor({"url": f"{url}/v1", "replicas": [url, idle]}, "--concurrency", "4")
    (cause,) = found["findings"]
    assert cause["name"] == "replica_idle"
    assert cause["evidence"] == f"{idle} served no requests; 1 of 2 replicas served all of them"
    assert cause["change"].startswith("have the balancer send requests there")
    assert status == 1


def test_a_server_without_counters_says_how_to_publish_them(
    doctor, simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = doctor({"url": simulator()})
    text = said(capsys)
    assert status == 0
    assert found["server"]["now"] is None
    assert text.startswith("no cause of slowness found")
    assert "counters none: the server does not publish /metrics (llama-server needs" in text
    # The server does not say how many requests it computes at once.
    assert found["server"]["load"]["concurrency"] == 8


def test_what_a_server_is_doing_for_others_is_shown(
    doctor, simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    url = simulator("--metrics", "vllm")
    body = json.dumps({"prompt": "Hi", "max_tokens": 64, "simulate": {"first": 60.0}})
    request = urllib.request.Request(f"{url}/v1/completions", body.encode(), {})
    with closing(urllib.request.urlopen(request, timeout=60)):
        doctor({"url": url}, "--concurrency", "2")
    assert "now 1 request running, 0 waiting" in said(capsys)


def test_a_server_that_is_not_there_is_reported(doctor, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = doctor({"url": "http://127.0.0.1:9", "load_timeout": "5s"})
    text = said(capsys)
    assert status == 2
    assert text.startswith("the server can't be asked")
    assert "does not answer a first request" in found["error"]


def test_an_answer_that_takes_too_long_for_a_load_is_not_loaded(
    doctor, simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = doctor({"url": simulator(first=1.5)}, "--budget", "10s", "--max-tokens", "2")
    assert found["server"]["load"] is None
    assert "no load was sent, because one answer takes 1.5" in said(capsys)
    assert status == 0


def test_a_load_is_refused_for_an_engine_that_answers_one_request_at_a_time(
    run: Run,
) -> None:
    done = run.doctor("--concurrency", "4")
    assert done.returncode == 2
    assert "--concurrency: llama_cpp answers one request at a time" in done.stderr
