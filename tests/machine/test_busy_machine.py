"""Measuring what else the machine does, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_llmperf.machine.load import LoadWatch
from pytest_llmperf.machine.processes import (
    ProcessTimes,
    growth,
    processes,
    swapped_in_bytes,
    system_times,
)

BURN = "while True: pass"
WINDOW = 1.2
#: CPU seconds: counters tick every 10 ms, and reading them takes a moment.
SLACK = 0.25

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@contextmanager
def burning(code: str = BURN) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Yield an idle process to stand for the session, so that this one's children are foreign."""
    with burning("import time; time.sleep(600)") as process:
        yield process


def cpu_seconds(pid: int) -> float:
    return next(p.own for p in processes().values() if p.pid == pid)


def test_a_foreign_process_is_named_with_its_load() -> None:
    with bystander() as session, burning() as stress:
        watch = LoadWatch(session.pid)
        time.sleep(WINDOW)
        report = watch.stop(top=1000)
    named = {process.pid: process for process in report.top}
    assert named[stress.pid].cores > 0.05
    assert report.foreign_cores >= named[stress.pid].cores - 0.1


def test_the_busiest_process_is_named_first() -> None:
    with bystander() as session, burning():
        watch = LoadWatch(session.pid)
        time.sleep(0.5)
        report = watch.stop(top=2)
    assert len(report.top) <= 2
    assert list(report.top) == sorted(report.top, key=lambda process: -process.cores)


def test_the_sessions_own_work_is_not_foreign() -> None:
    with burning() as engine:
        watch, busy = LoadWatch(), system_times().busy
        used = -cpu_seconds(engine.pid)
        time.sleep(WINDOW)
        used += cpu_seconds(engine.pid)
        busy = system_times().busy - busy
        report = watch.stop(top=1000)
    assert engine.pid not in {process.pid for process in report.top}
    assert report.foreign_cores * report.seconds <= busy - used + SLACK


def test_own_children_that_ended_meanwhile_are_not_foreign() -> None:
    used = 0.8
    code = f"import time\nend = time.process_time() + {used}\nwhile time.process_time() < end: pass"
    watch, busy = LoadWatch(), system_times().busy
    subprocess.run([sys.executable, "-c", code], check=True)
    busy = system_times().busy - busy
    report = watch.stop(top=1000)
    assert report.foreign_cores * report.seconds <= busy - used + SLACK


def test_a_grandchild_belongs_to_the_session() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    with burning(code) as child:
        deadline = time.monotonic() + 10
        grandchildren: list[ProcessTimes] = []
        while not grandchildren and time.monotonic() < deadline:
            grandchildren = [p for p in processes().values() if p.ppid == child.pid]
        watch = LoadWatch()
        time.sleep(0.6)
        report = watch.stop(top=1000)
        os.kill(grandchildren[0].pid, 9)
    assert grandchildren[0].pid not in {process.pid for process in report.top}


def test_time_of_ended_children_is_counted_once() -> None:
    parent = ProcessTimes(10, 1, 0.0, "make", own=1.0, reaped=2.0)
    child = ProcessTimes(11, 10, 0.0, "cc", own=5.0, reaped=0.0)
    later = ProcessTimes(10, 1, 0.0, "make", own=1.5, reaped=2.0 + 6.0)
    used = growth({parent.key: parent, child.key: child}, {later.key: later})
    # Of the 6 s that the ended child used in all, 5 were before the window.
    assert used == {later.key: pytest.approx(0.5 + 1.0)}


def test_a_reused_pid_is_another_process() -> None:
    old = ProcessTimes(10, 1, 100.0, "old", own=50.0, reaped=0.0)
    new = ProcessTimes(10, 1, 200.0, "new", own=2.0, reaped=0.0)
    assert growth({old.key: old}, {new.key: new}) == {new.key: 2.0}


@linux
def test_a_hostile_process_name_is_read(tmp_path: Path) -> None:
    program = tmp_path / "a) R (\n1"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "60"])
    try:
        found = {p.pid: p for p in processes().values()}[process.pid]
    finally:
        process.kill()
        process.wait()
    assert found.name == "a) R (?1"
    assert found.ppid == os.getpid()


@linux
def test_swapped_bytes_come_from_the_kernels_counter() -> None:
    pages = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    assert swapped_in_bytes() >= int(pages["pswpin"]) * os.sysconf("SC_PAGE_SIZE") >= 0


@linux
def test_what_is_read_elsewhere_through_psutil_agrees() -> None:
    from pytest_llmperf.machine.processes import _portable

    mine = next(p for p in _portable() if p.pid == os.getpid())
    direct = next(p for p in processes().values() if p.pid == os.getpid())
    assert mine.ppid == direct.ppid
    assert direct.own == pytest.approx(mine.own, abs=0.5)
    assert direct.reaped == pytest.approx(mine.reaped, abs=0.5)
