"""Process groups are ended while the leader's id still belongs to the leader."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ended_processes import wait_until_ended

import pytest_llmperf
from pytest_llmperf import process_groups
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineGoneError
from pytest_llmperf.engine.request import build_request
from pytest_llmperf.packages import installers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX's")

#: Starts a child in its own group, prints the child's id, waits and exits.
LEADER = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(7)
"""


def lead(seconds: float) -> tuple[subprocess.Popen[str], int]:
    """Start a leader that ends after ``seconds``, and return it with its child's id."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEADER, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        return process, int(output.readline())


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process group that belongs to somebody else."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def signalled_after_reaping(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Leaders whose group was signalled after they had been reaped, which must never happen."""
    groups: list[int] = []
    killpg = os.killpg

    def checked(group: int, number: int) -> None:
        try:
            os.waitid(os.P_PID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            groups.append(group)
        killpg(group, number)

    monkeypatch.setattr(os, "killpg", checked)
    return groups


def test_a_leader_that_has_ended_still_stands_for_its_group(
    signalled_after_reaping: list[int],
) -> None:
    leader, child = lead(0)
    assert process_groups.wait_until_ended(leader)
    assert process_groups.wait_until_ended(leader, 0)
    assert process_groups.has_ended(leader)
    assert leader.returncode is None
    assert psutil.Process(child).status() != psutil.STATUS_ZOMBIE
    assert process_groups.end_group(leader) == 7
    assert wait_until_ended(child)
    assert signalled_after_reaping == []


def test_a_living_group_is_ended_after_a_limited_wait(signalled_after_reaping: list[int]) -> None:
    leader, child = lead(600)
    assert not process_groups.wait_until_ended(leader, 0.05)
    assert process_groups.end_group(leader) == -signal.SIGKILL
    assert process_groups.has_ended(leader)
    assert process_groups.wait_until_ended(leader)
    assert wait_until_ended(child)
    assert signalled_after_reaping == []


def test_the_id_of_a_reaped_leader_is_a_strangers(stranger: subprocess.Popen[bytes]) -> None:
    ended = subprocess.Popen(["true"], start_new_session=True)
    ended.wait()
    ended.pid = stranger.pid  # as if the system had given the id out again
    for number in (signal.SIGINT, signal.SIGKILL):
        process_groups.signal_process(ended, number)
        process_groups.signal_group(ended, number)
    assert process_groups.end_group(ended) == 0
    assert not process_groups.has_ended(stranger)


def test_the_id_of_a_leader_that_others_reaped_is_a_strangers(
    stranger: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen(["true"], start_new_session=True)
    os.waitpid(ended.pid, 0)
    assert process_groups.has_ended(ended)
    assert process_groups.wait_until_ended(ended)
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, _number: sent.append(group))
    process_groups.end_group(ended)
    assert sent == []


def test_an_engine_that_died_is_ended_with_what_it_left(
    app_spec: Callable[..., LaunchSpec], signalled_after_reaping: list[int], tmp_path: Path
) -> None:
    spec = app_spec(
        """
        import os, signal, subprocess
        child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        def answer(prompt):
            if prompt == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            return str(child.pid)
        """
    )
    client = EngineClient.start(spec)
    child = int(client.request(build_request(prompt="hi", max_tokens=None)).text)
    assert client.alive
    with pytest.raises(EngineGoneError, match="ended by SIGKILL"):
        client.request(build_request(prompt="die", max_tokens=None))
    assert not client.alive
    client.close()
    assert wait_until_ended(child)

    # Without a request, the death of an engine shows only in its state.
    client = EngineClient.start(spec)
    child = int(client.request(build_request(prompt="hi", max_tokens=None)).text)
    os.kill(client.pid, signal.SIGKILL)
    # Its first thread may be gone some moments before the others.
    assert process_groups.wait_until_ended(client._worker.process, 30.0)
    assert not client.alive
    client.close()
    assert wait_until_ended(child)
    assert signalled_after_reaping == []


def test_an_engine_that_says_goodbye_is_reaped_last(
    app_spec: Callable[..., LaunchSpec], signalled_after_reaping: list[int]
) -> None:
    client = EngineClient.start(app_spec("def answer(prompt): return 'hi'"))
    client.close()
    client.close()
    client.kill()
    assert not client.alive
    assert signalled_after_reaping == []


def test_an_interrupted_installer_is_ended_with_its_group(
    signalled_after_reaping: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def interrupted(process: subprocess.Popen[bytes], *_: object, **__: object) -> bool:
        started.append(process.pid)
        # The installer ends at this very moment.
        os.kill(process.pid, signal.SIGKILL)
        process_groups.wait_until_ended(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(installers, "wait_until_ended", interrupted)
    with pytest.raises(KeyboardInterrupt):
        installers.run_logged(
            ["sleep", "600"],
            tmp_path / "log",
            "sleeping",
            cwd=tmp_path,
            environ=dict(os.environ),
            say=lambda _line: None,
        )
    assert wait_until_ended(started[0])
    assert signalled_after_reaping == []


def test_nobody_else_signals_a_group() -> None:
    package = Path(pytest_llmperf.__file__).parent
    arguments = {
        str(file.relative_to(package)): re.findall(r"os\.killpg\(([^,]*),", file.read_text())
        for file in package.rglob("*.py")
    }
    groups = {name: given for name, given in arguments.items() if given}
    # 0 is the caller's own group, which lives as long as the caller.
    assert groups.pop("process_groups.py") == ["process.pid"]
    assert all(given == ["0"] for given in groups.values()), groups
