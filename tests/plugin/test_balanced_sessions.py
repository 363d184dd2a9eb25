"""Two of llama.cpp's own servers behind a real nginx and a real HAProxy, set up as documented."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plugin_projects import server_config
from tiny_models import tiny_llama

from pytest_llmperf.engine.server.about import status_of
from pytest_llmperf.engine.server.counters import read_counters
from pytest_llmperf.engine.server.process import _free_port
from pytest_llmperf.engine.server.settings import ServerSettings

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests" / "support" / "llama_server.py"
COMMANDS = {
    "nginx": ["-p", ".", "-e", "stderr", "-c", "nginx.conf", "-g", "daemon off;"],
    "haproxy": ["-db", "-f", "haproxy.cfg"],
}
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}
FITNESS = {"client_slip": "note", "rate_not_reached": "note"}
TEST = """
@pytest.mark.load(concurrency=4, requests={requests})
@pytest.mark.request_latency(max="60s")
def test_load(llm_engine):
    llm_engine.generate("Hello there", max_tokens=16)
"""


class Replica:
    """One of llama.cpp's own servers on a tiny model."""

    def __init__(self, log: Path) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, SERVER, "--port", port, "--model", tiny_llama()]
        command += ["--metrics", "--parallel", 2]
        with log.open("w") as output:
            self.process = subprocess.Popen([*map(str, command)], stdout=output, stderr=output)
        answers(self.url, self.process)

    @property
    def generated(self) -> int:
        """Output tokens since the server started."""
        counters = asyncio.run(read_counters(ServerSettings(self.url)))
        assert counters is not None
        return counters.generated_tokens or 0

    def kill(self) -> None:
        """End the server at once."""
        self.process.kill()
        self.process.wait()


def answers(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    while asyncio.run(status_of(f"{url}/health")) != 200:
        assert process.poll() is None
        time.sleep(0.02)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[list[Replica]]:
    """Two running servers."""
    servers = [Replica(tmp_path / f"replica{number}.log") for number in (1, 2)]
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture(params=[*COMMANDS])
def balanced(
    request: pytest.FixtureRequest, replicas: list[Replica], tmp_path: Path
) -> Iterator[str]:
    """Address of a balancer configured as in docs/clusters.md, but with free ports."""
    balancer: str = request.param
    program = shutil.which(balancer) or shutil.which(balancer, path="/usr/sbin")
    if program is None:
        pytest.skip(f"{balancer} is not installed: apt-get install {balancer}")
    page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    (config,) = re.findall(rf"```{balancer}\n(.*?)```", page, flags=re.DOTALL)
    url = f"http://127.0.0.1:{_free_port()}"
    for port, own in zip((8080, 8081, 8082), (url, *(one.url for one in replicas)), strict=True):
        config = config.replace(f"127.0.0.1:{port}", own.removeprefix("http://"))
    (tmp_path / FILES[balancer]).write_text(config)
    with subprocess.Popen([program, *COMMANDS[balancer]], cwd=tmp_path) as process:
        try:
            answers(url, process)
            yield url
        finally:
            process.terminate()


@pytest.fixture
def session(
    project, quiet_machine, balanced: str, replicas: list[Replica]
) -> Callable[[int], dict[str, object]]:
    """Return a function that runs a session with this many requests, and returns its test."""
    perf = {"processes": 3, "max_processes": 3, "budget": "60s", "fitness": FITNESS}
    urls = [server.url for server in replicas]
    project.configure(server_config(perf, url=balanced, replicas=urls))

    def run(requests: int) -> dict[str, object]:
        project.write(test_it=TEST.format(requests=requests))
        project.perf()
        (test,) = project.session()["tests"]
        return test

    return run


def test_a_load_is_shared_and_every_token_is_found_at_a_replica(session, replicas):
    before = [server.generated for server in replicas]
    test = session(12)
    assert test["verdict"] == "no baseline"
    # Each replica itself got a request before the recording and before each of three loads.
    own = [server.generated - earlier for server, earlier in zip(replicas, before, strict=True)]
    assert min(own) > 4 * 4
    assert test["load"]["faults"] == {}
    _, shared, *rest = test["load"]["server"]
    urls = [server.url for server in replicas]
    match = re.fullmatch(
        rf"requests by replica, estimated from output tokens: {urls[0]} .*% \(about (\d+)\), "
        rf"{urls[1]} .*% \(about (\d+)\)",
        shared,
    )
    assert match is not None, shared
    counts = [int(count) for count in match.groups()]
    assert sum(counts) == 36
    assert min(counts) >= 9
    assert not [line for line in rest if "served" in line or "others answer" in line]


def test_a_replica_that_dies_ends_the_test_with_its_name(session, replicas):
    doomed = replicas[1]

    def kill_under_load() -> None:
        # More than the recording and a warm-up take.
        while doomed.generated < 600:
            time.sleep(0.01)
        doomed.kill()

    killer = threading.Thread(target=kill_under_load, daemon=True)
    killer.start()
    test = session(400)
    killer.join(60)
    assert test["verdict"] == "error"
    text = json.dumps(test)
    assert f"no server answers at {doomed.url} any more" in text or (
        f"llm.replicas: {doomed.url}: the server does not answer a first request" in text
    )
