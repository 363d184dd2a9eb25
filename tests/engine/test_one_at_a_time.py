from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_llmperf.engine.client import LaunchSpec
from pytest_llmperf.engine.device_lock import DeviceBusyError, DeviceLock
from pytest_llmperf.engine.handle import LlmEngine

HOLD = """
import sys, time
from pathlib import Path
from pytest_llmperf.engine.device_lock import DeviceLock
lock = DeviceLock(path=Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run another session that holds the device."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "locks" / "device.lock"
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(path))
    return path


def test_who_waits_is_told_for_whom_and_then_refused(path: Path) -> None:
    notices: list[str] = []
    with holder(path) as other:
        with pytest.raises(DeviceBusyError) as caught:
            DeviceLock(timeout=1.5, notify=notices.append).acquire()

    assert notices == [f"waiting for another session (process {other.pid}) to free the device"]
    assert str(caught.value).startswith(
        f"another session (process {other.pid}) has held the device for "
    )
    assert str(caught.value).endswith("wait for it to end, or end it")


def test_a_holder_that_is_killed_frees_the_device(path: Path) -> None:
    with holder(path) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()

        lock = DeviceLock(timeout=30)
        lock.acquire()

    assert lock.held
    lock.release()


def test_a_released_device_can_be_held_by_the_next(path: Path) -> None:
    first, second = DeviceLock(timeout=0), DeviceLock(timeout=0)
    first.acquire()
    first.acquire()
    with pytest.raises(DeviceBusyError):
        second.acquire()
    first.release()
    first.release()

    second.acquire()

    second.release()


def test_nobody_waits_for_a_lock_of_its_own_thread(path: Path) -> None:
    first, second = DeviceLock(), DeviceLock()
    first.acquire()
    with pytest.raises(DeviceBusyError, match=r"another engine of this process .* engine\.close"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_another_thread_may_free_the_device(path: Path) -> None:
    first, second = DeviceLock(timeout=0), DeviceLock(timeout=0)
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        first.acquire()
        held.set()
        over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        first.release()
        second.acquire()
        assert (first.held, second.held) == (False, True)
        second.release()
    finally:
        over.set()
        thread.join()


def test_a_lock_file_that_can_not_be_made_says_which_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DeviceBusyError, match=r"file/device.lock can't be used: .*LLMPERF_DEVICE"):
        DeviceLock(path=tmp_path / "file" / "device.lock").acquire()


def test_an_engine_holds_the_device_while_its_worker_lives(
    path: Path, app_spec: Callable[..., LaunchSpec]
) -> None:
    engine = LlmEngine(app_spec("def answer(prompt): return 'hi'"), 8, DeviceLock())
    engine.generate("hi")
    with pytest.raises(DeviceBusyError):
        DeviceLock(timeout=0).acquire()

    engine.close()

    other = DeviceLock(timeout=0)
    other.acquire()
    other.release()


def test_an_engine_that_failed_to_load_frees_the_device(
    path: Path, app_spec: Callable[..., LaunchSpec]
) -> None:
    engine = LlmEngine(app_spec("answer = 3"), 8, DeviceLock())
    with pytest.raises(Exception, match="not callable"):
        engine.generate("hi")

    other = DeviceLock(timeout=0)
    other.acquire()
    other.release()


def test_requests_of_several_threads_wait_for_each_other(app: Callable[..., LlmEngine]) -> None:
    engine = app("""
        import time
        running = most = 0
        def answer(prompt):
            global running, most
            running += 1
            most = max(most, running)
            time.sleep(0.05)
            yield f"{prompt} {most}"
            running -= 1
    """)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(engine.generate(f"{n}").text))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(answers) == ["0 1", "1 1", "2 1", "3 1"]
