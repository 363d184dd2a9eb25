"""The CPU's memory bandwidth: how much memory the stream takes, and when it gives up."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pytest_llmperf.machine.cpu_bandwidth import (
    BandwidthError,
    BusyError,
    array_bytes,
    last_level_cache,
    stream,
)
from pytest_llmperf.machine.free_memory import free_memory

MIB = 1 << 20


def caches(root: Path, cpus: dict[int, list[tuple[int, str, str, str]]]) -> Path:
    """Write a system whose CPUs have these caches: level, type, size, CPUs that share it."""
    for cpu, own in cpus.items():
        for number, (level, kind, size, shared) in enumerate(own):
            folder = root / f"cpu{cpu}" / "cache" / f"index{number}"
            folder.mkdir(parents=True)
            for name, text in zip(
                ("level", "type", "size", "shared_cpu_list"),
                (level, kind, size, shared),
                strict=True,
            ):
                (folder / name).write_text(f"{text}\n")
    return root


def test_the_stream_times_as_many_bytes_as_it_says() -> None:
    try:
        result = stream(2, 24 * MIB)
    except BusyError as busy:
        # Then the plugin rightly reports no bandwidth.
        pytest.skip(f"this machine is busy: {busy}")
    assert result.threads == 2
    assert result.array_bytes == 24 * MIB
    assert result.bytes_per_s >= result.median_bytes_per_s > 0
    assert "llmperf-stream" not in {thread.name for thread in threading.enumerate()}


def test_a_stream_without_its_cores_tells_nothing() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # Four threads for each core: none runs all the time.
    with pytest.raises(BusyError, match="other processes took the cores, and the threads"):
        stream(4 * (cores or 1), 32 * MIB, repetitions=3)
    assert "llmperf-stream" not in {thread.name for thread in threading.enumerate()}


def test_memory_that_can_not_be_had_ends_the_stream() -> None:
    with pytest.raises(BandwidthError, match="could not be measured in time: memory is short"):
        stream(2, 1 << 60)
    assert "llmperf-stream" not in {thread.name for thread in threading.enumerate()}


def test_too_little_memory_to_leave_the_cache_is_said() -> None:
    with pytest.raises(BandwidthError, match=r"cache of 300 MiB: 200 MiB may be used; free some"):
        array_bytes(300 * MIB, 400 * MIB)


@pytest.mark.parametrize(
    ("cache", "free", "total"),
    [
        (32, 64_000, 192),
        (96, 64_000, 384),
        (300, 64_000, 1200),
        (400, 64_000, 1536),
        (1152, 64_000, 2304),
        (300, 1_000, 500),
    ],
    ids=[
        "small cache",
        "four times the cache",
        "large cache",
        "bounded",
        "huge cache",
        "bounded by memory",
    ],
)
def test_the_arrays_are_far_larger_than_the_cache_and_bounded(
    cache: int, free: int, total: int
) -> None:
    assert 3 * array_bytes(cache * MIB, free * MIB) == pytest.approx(total * MIB, abs=3)


def test_the_last_level_caches_of_the_usable_cores_are_added_up(tmp_path: Path) -> None:
    first = [(1, "Data", "32K", "0"), (1, "Instruction", "32K", "0"), (3, "Unified", "16M", "0-1")]
    second = [(1, "Data", "32K", "2"), (3, "Unified", "16M", "2-3")]
    root = caches(tmp_path, {0: first, 1: first, 2: second, 3: second})
    assert [last_level_cache(root, cpus) for cpus in ({0, 1}, {1, 2}, {0, 1, 2, 3})] == [
        16 * MIB,
        32 * MIB,
        32 * MIB,
    ]
    assert last_level_cache(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("group", "files"),
    [
        (
            "0::/job\n",
            {
                "job/memory.max": "1073741824",
                "job/memory.current": "805306368",
                "job/memory.stat": "anon 1\ninactive_file 268435456\n",
            },
        ),
        (
            "4:memory:/job\n0::/\n",
            {
                "memory/job/memory.limit_in_bytes": "1073741824",
                "memory/job/memory.usage_in_bytes": "805306368",
                "memory/job/memory.stat": "total_inactive_file 268435456\n",
            },
        ),
    ],
    ids=["v2", "v1"],
)
def test_a_control_groups_limit_bounds_the_free_memory(
    tmp_path: Path, group: str, files: dict[str, str]
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert free_memory(tmp_path) == 512 * MIB


def test_without_a_limit_the_systems_free_memory_counts(tmp_path: Path) -> None:
    assert free_memory(tmp_path) > 64 * MIB
