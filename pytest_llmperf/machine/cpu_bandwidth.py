"""Memory bandwidth of the CPU, measured with as many threads as the engine uses.

STREAM's triad is a[i] = b[i] + s * c[i]: two reads and one write of 8 bytes, 24 bytes
per element; the read of the line that is overwritten is not counted. This module uses
numpy's ``add(b, c, out=a)``, which moves the same bytes: numpy has no fused triad, and
its ufuncs release the GIL.
Source: McCalpin, STREAM (www.cs.virginia.edu/stream), its rules on array size
and on reporting the best of several repetitions. benchmarks/bandwidth.py
compares it with a compiled triad.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pytest_llmperf.cpus import allowed_cpus, usable_cpus
from pytest_llmperf.machine.free_memory import free_memory

#: Number of repetitions; the first one is not counted.
REPETITIONS = 6
#: Maximum number of attempts while the threads do not get their cores.
_BATCHES = 3
#: Share of the best repetition that every thread must have spent on a core.
_OWN_CORES = 0.9
#: Seconds to wait for one pass, or for the arrays.
_PATIENCE_S = 60.0
BYTES_PER_ELEMENT = 24
_ELEMENT = 8
_ARRAYS = 3
_PAGE = 4096
#: Size of all arrays together, as a multiple of the last-level cache, so that no data is still
#: cached in the next pass; within these bounds. STREAM's four times per array would be gigabytes
#: on virtual machines, which report the whole host's cache.
_TIMES_CACHE = 4
_MIN, _MAX = 192 << 20, 1536 << 20
#: The upper bound is at least this multiple of the cache.
_MAX_TIMES_CACHE = 2
#: With a smaller multiple the cache would be measured.
_MIN_TIMES_CACHE = 1.5
#: Share of the free memory that may be used.
_SHARE_OF_FREE = 0.5
#: Assumed last-level cache if the system does not report it.
_USUAL_CACHE = 32 << 20

_SYS = Path("/sys/devices/system/cpu")


class BandwidthError(Exception):
    """The bandwidth can't be measured; the message has the cause and the fix."""


class BusyError(BandwidthError):
    """Other processes used the cores; measuring later may work."""


@dataclass(frozen=True)
class CpuBandwidth:
    """A measured memory bandwidth of the CPU.

    Attributes:
        bytes_per_s: bandwidth of the best repetition.
        median_bytes_per_s: of the median repetition; the difference is the noise.
        threads: number of threads.
        array_bytes: size of each of the three arrays.
    """

    bytes_per_s: float
    median_bytes_per_s: float
    threads: int
    array_bytes: int


def last_level_cache(root: Path = _SYS, cpus: Collection[int] | None = None) -> int | None:
    """Return the bytes of last-level cache of CPUs (default: the allowed ones); None if unknown."""
    sizes: dict[tuple[int, str], int] = {}
    for cpu in sorted(allowed_cpus() if cpus is None else cpus):
        for folder in root.glob(f"cpu{cpu}/cache/index*"):
            try:
                level = int((folder / "level").read_text())
                size = (folder / "size").read_text().strip()
                shared = (folder / "shared_cpu_list").read_text().strip()
                kind = (folder / "type").read_text().strip()
            except (OSError, ValueError):
                continue
            if kind != "Instruction" and size[:-1].isdigit():
                unit = {"K": 1 << 10, "M": 1 << 20}.get(size[-1], 1)
                sizes[level, shared] = int(size[:-1]) * unit
    last = max((level for level, _ in sizes), default=0)
    return sum(size for (level, _), size in sizes.items() if level == last) or None


def measure_cpu_bandwidth(n_threads: int) -> CpuBandwidth:
    """Stream through memory for about a second on ``n_threads`` threads, at most the usable CPUs.

    Nothing else of this session may run meanwhile.

    Raises:
        BandwidthError: there is too little free memory to stream past the cache.
        BusyError: the threads did not get their cores.
    """
    size = array_bytes(last_level_cache() or _USUAL_CACHE, free_memory())
    return stream(max(1, min(n_threads, usable_cpus())), size)


def array_bytes(cache: int, free: int) -> int:
    """Choose the size of each of the three arrays.

    Args:
        cache: bytes of last-level cache.
        free: bytes of free memory.

    Raises:
        BandwidthError: the free memory is too small to exceed the cache.
    """
    max_bytes = max(_MAX, _MAX_TIMES_CACHE * cache)
    total = min(max(_MIN, _TIMES_CACHE * cache), max_bytes, free * _SHARE_OF_FREE)
    if total < _MIN_TIMES_CACHE * cache:
        raise BandwidthError(
            "too little free memory to measure the CPU's bandwidth past its last-level cache of "
            f"{cache >> 20} MiB: {int(total) >> 20} MiB may be used; free some"
        )
    return int(total / _ARRAYS)


def stream(threads: int, array_bytes: int, repetitions: int = REPETITIONS) -> CpuBandwidth:
    """Time ``repetitions`` passes over three arrays of this size, shared among the threads.

    Raises:
        BandwidthError, BusyError: as ``measure_cpu_bandwidth``.
    """
    part = max(1, array_bytes // _ELEMENT // threads)
    run = _Stream(threads, part)
    try:
        for _ in range(_BATCHES):
            run.repeat(repetitions)
            passes = sorted(run.passes[1:])
            if passes[0].busy >= _OWN_CORES:
                break
        else:
            raise BusyError(
                "the CPU's bandwidth could not be measured: other processes took the cores, and "
                f"the threads that measure ran {passes[0].busy:.0%} of the time at best"
            )
    except threading.BrokenBarrierError:
        raise BandwidthError(
            "the CPU's bandwidth could not be measured in time: memory is short, or the machine "
            "is very busy; close other programs"
        ) from None
    finally:
        run.stop()
    moved = part * threads * BYTES_PER_ELEMENT
    return CpuBandwidth(
        moved / passes[0].seconds,
        moved / passes[len(passes) // 2].seconds,
        threads,
        part * threads * _ELEMENT,
    )


class _Pass(NamedTuple):
    """One pass over the arrays; the fastest sorts first."""

    seconds: float
    #: Smallest share of that time that any thread spent on a core.
    busy: float


class _Turn(NamedTuple):
    """One thread's part of a pass, in seconds."""

    began: float
    ended: float
    on_a_core: float


class _Stream:
    """Threads that pass over their parts of the arrays together, on request."""

    def __init__(self, threads: int, part: int) -> None:
        self.passes: list[_Pass] = []
        self._part = part
        self._turns = [_Turn(0.0, 0.0, 0.0)] * threads
        # Without a time limit, a thread that fails would block the others forever.
        self._barrier = threading.Barrier(threads + 1, timeout=_PATIENCE_S)
        self._workers = [
            threading.Thread(target=self._run, args=(n,), name="llmperf-stream", daemon=True)
            for n in range(threads)
        ]
        for worker in self._workers:
            worker.start()

    def repeat(self, times: int) -> None:
        """Pass over the arrays ``times`` times.

        Raises:
            threading.BrokenBarrierError: a thread failed, or took far too long.
        """
        for _ in range(times):
            self._barrier.wait()
            self._barrier.wait()
            # Timed by the threads' own clocks: this thread may have to wait for a core.
            seconds = max(t.ended for t in self._turns) - min(t.began for t in self._turns)
            self.passes.append(_Pass(seconds, min(t.on_a_core for t in self._turns) / seconds))

    def stop(self) -> None:
        """End the threads, in any state."""
        self._barrier.abort()
        for worker in self._workers:
            # A thread that waits for swapped memory must not hang the session.
            worker.join(_PATIENCE_S)

    def _run(self, number: int) -> None:
        """Touch the thread's own pages first (they are then local to it), then pass over them."""
        import numpy as np

        try:
            arrays = []
            for value in (0.0, 1.0, 2.0):
                # numpy begins an array 16 bytes into a page, where every load of its vector
                # loops spans two cache lines: 30% less than a compiled triad.
                raw = np.empty(self._part + _PAGE // _ELEMENT)
                skip = -raw.ctypes.data % _PAGE // _ELEMENT
                arrays.append(raw[skip : skip + self._part])
                arrays[-1].fill(value)
            a, b, c = arrays
            while True:
                self._barrier.wait()
                before, began = time.thread_time(), time.perf_counter()
                np.add(b, c, out=a)
                ended, after = time.perf_counter(), time.thread_time()
                self._turns[number] = _Turn(began, ended, after - before)
                self._barrier.wait()
        except (MemoryError, threading.BrokenBarrierError):
            self._barrier.abort()
