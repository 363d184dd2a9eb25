"""Sessions that gate a server, which they start or which already runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from plugin_projects import server_config
from tiny_models import tiny_llama

from pytest_llmperf.engine.server.process import _free_port

SERVER = Path(__file__).parent.parent / "support" / "llama_server.py"
COMMAND = [str(SERVER), "--port", "{port}", "--model", str(tiny_llama())]
TEST = """
@pytest.mark.tokens_per_sec(min=5)
@pytest.mark.end_to_end(max="60s")
def test_answer(llm_engine):
    assert llm_engine.generate("Hello", max_tokens=16).output_tokens == 16
"""
PERF = {"processes": 3, "max_processes": 4, "max_pairs": 3, "warmup_max": 2}
config = partial(server_config, PERF)


def started(*arguments: str) -> str:
    words = ["{python}", *COMMAND, *arguments]
    return config(start=" ".join(f"'{word}'" for word in words))


@pytest.fixture
def attached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a llama.cpp server that already runs."""
    port = _free_port()
    words = [word.replace("{port}", str(port)) for word in COMMAND]
    log = tmp_path_factory.mktemp("server") / "log"
    with (
        log.open("w") as output,
        subprocess.Popen([sys.executable, *words], stdout=output, stderr=output) as process,
    ):
        while "serving" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
        process.kill()


def servers() -> list[psutil.Process]:
    """Return the servers among the descendants of this process."""
    children = psutil.Process(os.getpid()).children(recursive=True)
    return [process for process in children if str(SERVER) in " ".join(process.cmdline())]


def test_a_started_server_is_gated_by_targets_and_a_baseline(project, quiet_machine):
    project.write(test_it=TEST)
    project.configure(started("--metrics"))
    result = project.perf("--llmperf-record")
    result.assert_outcomes(passed=1)
    counted = "llama.cpp's own counters: 0% of the prompt tokens from its cache"
    result.stdout.fnmatch_lines(["*measuring 1 test, at least 3 processes each*", f"*- {counted}"])
    assert project.session()["tests"][0]["server"] == [counted]
    assert servers() == []
    (path,) = project.baselines()
    record = json.loads(path.read_text())
    assert record["model"]["name"].startswith(tiny_llama().name)
    assert record["provenance"]["engine"] == "server"

    # Without targets only the baseline judges.
    project.write(test_it=TEST.replace("(min=5)", "").replace('(max="60s")', "(tolerance='90%')"))
    project.perf().assert_outcomes(passed=1)
    assert project.session()["tests"][0]["metrics"][0]["baseline"]

    other = str(tiny_llama(seed=1, layers=1))
    project.configure(started().replace(str(tiny_llama()), other))
    project.perf().stdout.fnmatch_lines(["*does not match: model: base tiny-llama*"])


def test_a_server_that_runs_already_is_measured_in_blocks_with_a_pause_before_each(
    project, quiet_machine, attached, monkeypatch
):
    pauses: list[float] = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append)
    monkeypatch.setattr("pytest_llmperf.measure.rounds.time", clock)
    project.write(test_it=TEST)
    project.configure(config(url=attached))
    result = project.perf()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*measuring 1 test, at least 3 blocks each*"])
    assert project.sampled()["test_answer"] >= 3
    assert len(pauses) >= 3
    assert set(pauses) == {1.0}


def test_two_commands_are_compared_in_one_session(project, quiet_machine):
    project.write(test_it=TEST)
    project.configure(started())
    project.configure(started("--threads", "2"), "other.yaml")
    result = project.perf("--llmperf-against-config", "other.yaml")
    result.stdout.fnmatch_lines(["*llm.start*"])
    (test,) = project.session()["tests"]
    assert test["pairs"] >= 3
    assert test["verdict"] not in ("error", "invalid")
    assert servers() == []


def test_a_sweep_starts_a_server_with_each_value_of_an_argument(project, quiet_machine):
    project.write(
        test_it="""
        @pytest.mark.perf_sweep(**{"extra.ctx": [256, 512]})
        @pytest.mark.tokens_per_sec(min=1)
        def test_answer(llm_engine, request):
            assert f"[extra.ctx={llm_engine.info.n_ctx}]" in request.node.nodeid
            llm_engine.generate("Hello", max_tokens=8)
        """
    )
    project.configure(started())
    project.perf("--llmperf-set", "perf.processes=1").assert_outcomes(passed=2)
    tests = project.session()["tests"]
    assert [test["settings"] for test in tests] == [{"extra.ctx": 256}, {"extra.ctx": 512}]
    project.perf("--llmperf-set", "llm.extra.ctx=512", "-k", "256").assert_outcomes(passed=1)
    twice = project.perf("--llmperf-set", "llm.start=serve --ctx 512 --port {port}")
    assert "extra.ctx: llm.start has --ctx already; keep one of them" in twice.stderr.str()


def test_an_argument_that_differs_is_named_between_configurations_and_sessions(
    project, quiet_machine
):
    project.write(test_it=TEST.replace("(min=5)", "").replace('(max="60s")', "(tolerance='90%')"))
    words = " ".join(f"'{word}'" for word in ("{python}", *COMMAND))
    project.configure(config(start=words, extra={"ctx": 512}))
    project.configure(config(start=words, extra={"ctx": 256}), "other.yaml")
    project.perf("--llmperf-against-config", "other.yaml", "--llmperf-record")
    session = project.session()
    (changed,) = session["session"]["side_differences"]
    assert changed == "llm.extra.ctx: base 256, candidate 512"
    assert session["tests"][0]["pairs"] >= 3
    project.perf("--llmperf-set", "llm.extra.ctx=256")
    (changed,) = project.session()["tests"][0]["differences"]
    assert changed.startswith("llm.extra.ctx: hidden (SHA-256 ")
