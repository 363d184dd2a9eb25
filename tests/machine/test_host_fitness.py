"""Memory, page faults and CPU quotas: real where this machine can produce them, else as files.

What this machine can't produce is a small tree of the files in which the kernel would show it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_tree import NEED, WINDOW, Tree, names, only_finding

from pytest_llmperf.machine.fitness import HostNeeds, judge_host
from pytest_llmperf.machine.host import HostReport, HostWatch

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and /sys")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_machine_that_shows_nothing_has_no_findings(tree: Tree) -> None:
    report = tree.watched(lambda: None, wait=WINDOW)
    assert set(vars(report.counters).values()) == {None}
    assert (report.available_bytes, report.clocks_mhz, report.governors) == (None, (), ())
    assert judge_host(report, HostNeeds(mapped_bytes=1 << 40, threads=9, cores=1)) == []


# memory_pressure


@pytest.mark.parametrize(
    ("some", "full", "found"),
    [
        (0.0, 0.0, []),
        (0.002, 0.001, []),
        (0.3, 0.0, [("memory_pressure", "warn")]),
        (0.3, 0.3, [("memory_pressure", "invalid")]),
    ],
)
def test_time_spent_waiting_for_memory_is_judged(
    tree: Tree, some: float, full: float, found: list[tuple[str, str]]
) -> None:
    tree.pressure(100.0, 50.0)
    report = tree.watched(lambda: tree.pressure(100.0 + some, 50.0 + full), wait=WINDOW)
    assert names(report) == found


def test_the_pressure_within_the_own_container_counts(tree: Tree) -> None:
    # The system's own total is larger, from long ago, and stands still.
    tree.pressure(900, 900)
    tree.write("proc/self/cgroup", "0::/app")
    group = "sys/fs/cgroup/app/memory.pressure"
    tree.write(group, "some avg10=0 total=0\nfull avg10=0 total=0")
    report = tree.watched(
        lambda: tree.write(group, "some avg10=0 total=400000\nfull avg10=0 total=400000"),
        wait=WINDOW,
    )
    finding = only_finding(report)
    assert finding.severity == "invalid"
    assert finding.evidence["full_share"] == pytest.approx(0.4 / report.seconds, rel=0.01)


def test_less_memory_than_a_mapped_model_needs_is_reported(tree: Tree) -> None:
    tree.write("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 400000 kB")
    report = tree.watched(lambda: None)
    finding = only_finding(report, HostNeeds(mapped_bytes=4 << 30))
    assert (finding.name, finding.severity) == ("memory_pressure", "warn")
    assert "only 391 MiB of memory was available" in finding.text
    assert "4.0 GiB of the model" in finding.text
    assert judge_host(report, HostNeeds(mapped_bytes=100 << 20)) == []


def test_what_a_container_leaves_of_the_memory_is_what_is_available(tree: Tree) -> None:
    tree.write("proc/meminfo", "MemTotal: 80000000 kB\nMemAvailable: 40000000 kB")
    tree.write("proc/self/cgroup", "0::/app")
    for name, number in (("max", 2 << 30), ("current", 1536 << 20)):
        tree.write(f"sys/fs/cgroup/app/memory.{name}", number)
    # Cached pages of files, such as a model that was read, make room.
    tree.write("sys/fs/cgroup/app/memory.stat", f"anon 1\ninactive_file {512 << 20}")
    report = tree.watched(lambda: None)
    assert report.available_bytes == 1 << 30
    assert only_finding(report, HostNeeds(mapped_bytes=4 << 30)).name == "memory_pressure"


@linux
def test_this_machines_own_pressure_is_read() -> None:
    if not Path("/proc/pressure/memory").exists():
        pytest.skip("this kernel keeps no account of pressure")
    report = HostWatch().report()
    assert report.counters.some_us is not None
    assert report.available_bytes is not None


# major_faults

#: Drops a file's pages and reads them back through a map, once per line of input.
REREAD = """
import mmap, os, sys
path, size = sys.argv[1], 1 << 21
for line in sys.stdin:
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as pages:
        pages.madvise(mmap.MADV_RANDOM)
        for place in range(0, size, 1 << 15):
            pages[place]
    os.close(descriptor)
    print("read", flush=True)
"""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that reads a file back from disk whenever it is sent a line."""
    weights = tmp_path / "weights"
    with weights.open("wb") as file:
        file.write(os.urandom(1 << 21))
        os.fsync(file.fileno())
    process = subprocess.Popen(
        [sys.executable, "-c", REREAD, str(weights)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        _reread(process)
        yield process
        process.kill()


def _reread(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("again\n")
    process.stdin.flush()
    assert process.stdout.readline() == "read\n"


@linux
def test_an_engine_that_reads_its_model_back_from_disk_is_unfit(
    reader: subprocess.Popen[str],
) -> None:
    watch = HostWatch([reader.pid])
    _reread(reader)
    watch.timed()
    (finding,) = [f for f in judge_host(watch.report(), NEED) if f.name == "major_faults"]
    assert finding.severity == "invalid"
    assert finding.evidence["major_faults"] >= 16
    assert finding.evidence["read_bytes"] >= 64 << 12
    assert "read from disk) while measuring" in finding.text


@linux
def test_what_an_engine_reads_while_it_warms_up_does_not_count(
    reader: subprocess.Popen[str],
) -> None:
    watch = HostWatch([reader.pid])
    _reread(reader)
    watch.look()
    watch.timed()
    assert "major_faults" not in dict(names(watch.report()))


@linux
def test_an_engine_that_is_gone_has_read_nothing(reader: subprocess.Popen[str]) -> None:
    watch = HostWatch([reader.pid])
    reader.kill()
    reader.wait()
    watch.timed()
    assert watch.report().faults is None


# cpu_quota


@pytest.fixture
def quota_group() -> Iterator[Path]:
    """A real cgroup whose processes may use a tenth of a core."""
    for parent, v2 in ((Path("/sys/fs/cgroup/cpu"), False), (Path("/sys/fs/cgroup"), True)):
        folder = parent / f"llmperf-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            try:
                if v2:
                    (folder / "cpu.max").write_text("10000 100000")
                else:
                    (folder / "cpu.cfs_period_us").write_text("100000")
                    (folder / "cpu.cfs_quota_us").write_text("10000")
                yield folder
                return
            finally:
                folder.rmdir()
    pytest.skip("no cgroup that limits CPU time can be made here")


@linux
def test_a_real_quota_that_stops_the_engine_makes_it_unfit(quota_group: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as engine:
        try:
            (quota_group / "cgroup.procs").write_text(str(engine.pid))
            watch = HostWatch([engine.pid])
            time.sleep(1.0)
            findings = judge_host(watch.report(), NEED)
            (finding,) = [f for f in findings if f.name == "cpu_quota"]
        finally:
            engine.kill()
            engine.wait()
    assert finding.severity == "invalid"
    assert finding.evidence["stops"] >= 2
    assert finding.evidence["stopped_seconds"] > 0.1


def _quota(tree: Tree, version: int, stops: int, seconds: float) -> None:
    if version == 2:
        tree.write("proc/self/cgroup", "0::/app")
        text = f"usage_usec 1\nnr_throttled {stops}\nthrottled_usec {round(seconds * 1e6)}"
        tree.write("sys/fs/cgroup/app/cpu.stat", text)
    else:
        tree.write("proc/self/cgroup", "4:memory:/app\n1:cpu,cpuacct:/app")
        text = f"nr_periods 9\nnr_throttled {stops}\nthrottled_time {round(seconds * 1e9)}"
        tree.write("sys/fs/cgroup/cpu,cpuacct/app/cpu.stat", text)


@pytest.mark.parametrize("version", [1, 2])
def test_time_lost_to_a_quota_is_read_from_either_kind_of_cgroup(tree: Tree, version: int) -> None:
    _quota(tree, version, 5, 1.0)
    report = tree.watched(lambda: _quota(tree, version, 9, 1.5), wait=0.1)
    finding = only_finding(report)
    assert (finding.name, finding.severity) == ("cpu_quota", "invalid")
    assert (finding.evidence["stops"], finding.evidence["stopped_seconds"]) == (4, 0.5)


def test_a_quota_that_stopped_nothing_is_silent(tree: Tree) -> None:
    _quota(tree, 2, 5, 1.0)
    assert names(tree.watched(lambda: None, wait=0.1)) == []


def test_a_quota_above_the_own_group_counts(tree: Tree) -> None:
    tree.write("proc/self/cgroup", "0::/pod/app")
    stat = "nr_throttled {}\nthrottled_usec {}"
    # This group was stopped longer, but not now.
    tree.write("sys/fs/cgroup/pod/app/cpu.stat", stat.format(90, 9_000_000))
    tree.write("sys/fs/cgroup/pod/cpu.stat", stat.format(1, 0))
    grown = stat.format(4, 500_000)
    report = tree.watched(lambda: tree.write("sys/fs/cgroup/pod/cpu.stat", grown), wait=0.1)
    assert (report.counters.stops, report.counters.stopped_us) == (3, 500_000)
    assert names(report) == [("cpu_quota", "invalid")]


def test_more_threads_than_the_quota_has_cores_is_the_configurations_doing(tree: Tree) -> None:
    _quota(tree, 2, 0, 0.0)
    report = tree.watched(lambda: _quota(tree, 2, 9, 1.0), wait=0.1)
    finding = only_finding(report, HostNeeds(threads=8, cores=2))
    assert finding.severity == "warn"
    assert finding.text.endswith("8 engine threads on 2 usable cores")


def test_one_stop_one_thread_and_one_core_are_counted_as_one(tree: Tree) -> None:
    _quota(tree, 2, 0, 0.0)
    finding = only_finding(
        tree.watched(lambda: _quota(tree, 2, 1, 1.0), wait=0.1), HostNeeds(threads=1, cores=1)
    )
    assert "this session's processes 1 time, for" in finding.text
    assert finding.text.endswith(": 1 engine thread on 1 usable core")


def test_a_report_without_a_cause_is_silent() -> None:
    assert judge_host(HostReport(10.0), NEED) == []
