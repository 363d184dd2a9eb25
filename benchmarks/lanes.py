"""Jobs that run side by side, each on its own processor cores."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from pytest_llmperf.cpus import allowed_cpus, usable_cpus

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
#: File that lists the CPUs that are threads of the same core as a CPU.
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def add_lanes_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--lanes``."""
    parser.add_argument(
        "--lanes", type=int, default=1, help="so many side by side, each on its own cores"
    )


def check_lanes(parser: argparse.ArgumentParser, lanes: int, threads: int, gpu: bool) -> None:
    """End the program if so many lanes would disturb each other."""
    if lanes < 1:
        parser.error(f"--lanes: at least 1, got {lanes}")
    if lanes == 1:
        return
    if gpu:
        parser.error("--gpu: one lane only, or each finds the others on its card")
    if not sys.platform.startswith("linux"):
        parser.error("--lanes: processes are bound to cores on Linux only")
    usable = usable_cpus()
    if usable // lanes < threads:
        parser.error(
            f"--lanes {lanes} with --threads {threads}: {lanes * threads} cores, and {usable} "
            "are usable here"
        )


def lanes_of(count: int) -> list[set[int]]:
    """Split the usable CPUs into ``count`` equal sets; the threads of a core stay together."""
    cpus = sorted(allowed_cpus(), key=lambda cpu: (_core(cpu), cpu))
    share = min(usable_cpus(), len(cpus)) // count
    return [set(cpus[lane * share : (lane + 1) * share]) for lane in range(count)]


def _core(cpu: int) -> int:
    """Return the first CPU of the core that a CPU is a thread of."""
    try:
        siblings = Path(_SIBLINGS.format(cpu)).read_text(encoding="ascii")
    except OSError:
        return cpu
    return int(re.split("[,-]", siblings)[0])


def side_by_side(
    work: Callable[[Job, dict[str, str]], Outcome], jobs: Iterable[Job], count: int
) -> Iterator[tuple[Job, Outcome]]:
    """Do every job, ``count`` at a time, and yield each with its outcome as it ends.

    ``work`` is called with the job and variables for the processes it starts, which
    keep sessions of different lanes from waiting for each other's device lock. One
    lane is not bound to any cores. After a failed job no other is begun.
    """
    if count == 1:
        for job in jobs:
            yield job, work(job, {})
        return
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(count) as pool:

        def in_lane(job: Job, number: int, cpus: set[int]) -> Outcome:
            # For this thread only; the processes it starts inherit it.
            os.sched_setaffinity(0, cpus)
            return work(job, {"LLMPERF_DEVICE_LOCK": str(Path(folder, f"lane{number}.lock"))})

        left = iter(jobs)
        running: dict[Future[Outcome], tuple[Job, int, set[int]]] = {}

        def begin(number: int, cpus: set[int]) -> None:
            for job in left:
                running[pool.submit(in_lane, job, number, cpus)] = (job, number, cpus)
                return

        for number, cpus in enumerate(lanes_of(count)):
            begin(number, cpus)
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                job, number, cpus = running.pop(future)
                yield job, future.result()
                begin(number, cpus)
