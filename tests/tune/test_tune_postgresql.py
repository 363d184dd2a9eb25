"""A study in a real PostgreSQL, which this file starts on the loopback address."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_tune_study import IDENTITY, SPACE, TODAY, measured, proposal
from tiny_models import tiny_llama
from tune_projects import configure

from pytest_llmperf.tune.study import Study

#: The server refuses to run as root; Debian's package has this user for it.
USER = "postgres"
#: llmperf with races of one pair and quick polling of the device lock, so that searches take turns
#: often: the test is about which points a search takes, not about their results.
LLMPERF = """
import sys
from pytest_llmperf.cli import main
from pytest_llmperf.engine import device_lock
from pytest_llmperf.tune import race

race.MAX_PAIRS = 1
device_lock._POLL_S = 0.02
sys.exit(main())
"""


def programs() -> Path | None:
    """Return the folder of the server's programs; Debian keeps them off the PATH."""
    installed = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    on_path = shutil.which("initdb")
    folders = [*installed, *([Path(on_path).parent] if on_path else [])]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("psycopg2", reason="needs a driver: pip install psycopg2-binary")
    folder = programs()
    if folder is None:
        pytest.skip("needs PostgreSQL's initdb and postgres")
    as_user: list[str] = []
    data = Path(tempfile.mkdtemp(prefix="llmperf-pg-"))
    if os.getuid() == 0:
        if shutil.which("runuser") is None:
            pytest.skip("needs runuser, as PostgreSQL does not run as root")
        try:
            shutil.chown(data, USER)
        except LookupError:
            pytest.skip(f"needs the user {USER}, as PostgreSQL does not run as root")
        as_user = ["runuser", "-u", USER, "--"]
    options = ["-D", str(data), "-U", "tuner", "-A", "trust", "--no-sync"]
    subprocess.run([*as_user, folder / "initdb", *options], check=True, stdout=subprocess.DEVNULL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*as_user, folder / "postgres", "-D", str(data), "-h", "127.0.0.1"]
    with subprocess.Popen(
        [*command, "-p", str(port), "-k", str(data)], stderr=subprocess.DEVNULL
    ) as server:
        _wait_for(port)
        yield f"postgresql+psycopg2://tuner@127.0.0.1:{port}/postgres"
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 2)  # a fast shutdown
        server.wait(20)
    shutil.rmtree(data, ignore_errors=True)


def _wait_for(port: int) -> None:
    """Wait until the server accepts sessions; it listens a moment earlier."""
    import psycopg2

    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(psycopg2.OperationalError):
            psycopg2.connect(
                host="127.0.0.1", port=port, user="tuner", dbname="postgres", connect_timeout=1
            ).close()
            return
        time.sleep(0.05)
    raise AssertionError("the server did not start")


def opened(url: str, **identity: Any) -> Study:
    return Study.open("shared", url, Path("unused"), {**IDENTITY, **identity}, SPACE, 7)


def test_two_workers_share_a_study_in_postgresql(url: str) -> None:
    first, second = opened(url), opened(url)
    asked = first.ask(proposal(n_batch=128), 1)
    assert second.running() == [{**TODAY, "n_batch": 128}]
    first.finish(asked, measured(asked.number, {"n_batch": 128}))
    assert [point.settings for point in second.points()] == [{"n_batch": 128}]
    # A point that this process left unfinished is proposed again.
    second.ask(proposal(flash_attn=True), 1)
    assert first.recover() == 1
    left = first.ask_left_behind(1)
    assert left is not None
    assert left.values == {**TODAY, "flash_attn": True}
    assert first.storage == url


def finished(output: Path) -> set[int]:
    """Return the numbers of the points that a search has named as finished."""
    return {int(n) for n in re.findall(r"^llmperf: point (\d+) ", output.read_text(), re.M)}


def stored_points(url: str, study: str) -> dict[int, Any]:
    """Return the finished points of a study by their numbers, as Optuna itself reads them."""
    import optuna

    trials = optuna.load_study(study_name=study, storage=url).trials
    return {t.number + 1: t.user_attrs["point"] for t in trials if "point" in t.user_attrs}


def test_two_searches_at_once_divide_the_points_of_a_study(
    url: str, project: pytest.Pytester
) -> None:
    # A small model and small steps, so that no point takes long.
    space = {
        "n_batch": [64, 128, 256, 512],
        "n_ubatch": [64, 128, 256, 512],
        "n_ctx": [512, 768, 1024],
        "flash_attn": [False, True],
        "use_mmap": [True, False],
    }
    configure(project.path, space, model_path=str(tiny_llama()), n_batch=256, n_ubatch=256)
    command = [sys.executable, "-c", LLMPERF, "tune", "--prompt", "A question about caches."]
    command += ["--max-tokens", "4", "--phase", "1", "--storage", url, "--study", "divided"]
    command += ["--budget", "5m"]
    outputs = [project.path / "one.txt", project.path / "other.txt"]
    with contextlib.ExitStack() as stack:
        searches = []
        for output in outputs:
            stream = stack.enter_context(output.open("w"))
            search = subprocess.Popen(
                command, cwd=project.path, stdout=subprocess.DEVNULL, stderr=stream
            )
            stack.callback(search.kill)
            searches.append(search)
        until = time.monotonic() + 200
        while time.monotonic() < until and not all(map(finished, outputs)):
            if any(search.poll() is not None for search in searches):
                break
            time.sleep(0.1)
        for search in searches:
            search.send_signal(signal.SIGINT)
        for search in searches:
            search.wait(60)
    first, second = map(finished, outputs)
    assert first, outputs[0].read_text()
    assert second, outputs[1].read_text()
    assert not first & second
    points = stored_points(url, "divided")
    assert points.keys() >= first | second
    settings = [json.dumps(point["settings"], sort_keys=True) for point in points.values()]
    assert len(settings) == len({*settings})
