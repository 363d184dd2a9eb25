"""Work side by side, each piece on processor cores of its own."""

from __future__ import annotations

import os
import queue
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


def lanes_of(count: int) -> list[set[int]]:
    """Split the usable cores into ``count`` equal sets of neighbours; one lane is not bound.

    Neighbours, because the two threads of one core often have numbers that follow
    each other, and should not serve two lanes. More than one lane needs Linux.
    """
    if count == 1:
        return [set()]
    usable = sorted(os.sched_getaffinity(0))
    share = len(usable) // count
    if share < 1:
        raise SystemExit(f"--lanes {count}: there are {len(usable)} usable cores")
    return [set(usable[lane * share : (lane + 1) * share]) for lane in range(count)]


def side_by_side(
    work: Callable[[Job, dict[str, str]], Outcome], jobs: Sequence[Job], count: int
) -> Iterator[tuple[Job, Outcome]]:
    """Do every job, ``count`` at a time, and yield each with its outcome as it ends.

    ``work`` is called with the job and variables for the processes it starts, which
    keep sessions of different lanes from waiting for each other's device lock.
    """
    free: queue.Queue[tuple[int, set[int]]] = queue.Queue()
    for number, cores in enumerate(lanes_of(count)):
        free.put((number, cores))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(count) as pool:

        def in_lane(job: Job) -> Outcome:
            number, cores = free.get()
            try:
                if not cores:
                    return work(job, {})
                # Of this thread alone; the processes it starts inherit it.
                os.sched_setaffinity(0, cores)
                return work(job, {"LLMPERF_DEVICE_LOCK": str(Path(folder, f"lane{number}.lock"))})
            finally:
                free.put((number, cores))

        waiting = {pool.submit(in_lane, job): job for job in jobs}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            for future in waiting:
                future.cancel()
