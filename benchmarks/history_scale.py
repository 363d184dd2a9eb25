"""How long ``llmperf history`` takes, and how much memory, as the history grows.

    python benchmarks/history_scale.py [--commits 1000 3000 10000] [--repeats 7] [--keep 200]

Repositories with so many commits and a recorded session each (20 tests, 6 metrics, 3
processes of 3 iterations) are made in a temporary folder. Every repeat runs the
command in each of them, in random order: first with an empty cache, then again.
CPU time is printed beside the wall time, because other programs on the machine
change it less. Memory is the resident memory of the command and all its children together,
sampled in separate runs that are not timed; shared pages count for each process.
Exit status 0 if the largest history takes at most the limits and time grows at
most in proportion; 1 if not; 2 if it could not be measured.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
from exit_status import exit_with
from history_repository import FOLDER, build
from paired import MIN_PAIRS, ratio_interval
from startup import children_cpu

FIRST_LIMIT_S = 8.0
AGAIN_LIMIT_S = 1.0
LIMIT_MB = 300.0
_SAMPLE_S = 0.003
_COMMAND = ("-m", "pytest_llmperf.cli", "history", "--metric", "all", "--dir", FOLDER)


class RunTime(NamedTuple):
    """How long a run took: seconds by the clock, and seconds of CPU time."""

    passed: float
    cpu: float


class Case:
    """One repository, and measurements in it."""

    def __init__(self, folder: Path, commits: int) -> None:
        self.folder, self.commits = folder / f"repository-{commits}", commits
        self.cache = folder / f"cache-{commits}"
        self.first: list[RunTime] = []
        self.again: list[RunTime] = []
        self.memory: list[float] = []

    def forget(self) -> None:
        """Remove the command's cache."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command."""
        return subprocess.Popen(
            [sys.executable, *_COMMAND],
            cwd=self.folder,
            env={**os.environ, "LLMPERF_CACHE_DIR": str(self.cache), "COLUMNS": "120"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def run(self) -> RunTime:
        """Time one run.

        Raises:
            RuntimeError: the command failed.
        """
        began, used = time.perf_counter(), children_cpu()
        process = self.start()
        _, errors = process.communicate()
        took = RunTime(time.perf_counter() - began, children_cpu() - used)
        if process.returncode or b"change points are not looked for" in errors:
            raise RuntimeError(f"llmperf history: {errors.decode()}")
        return took

    def megabytes(self) -> float:
        """Return the peak resident memory of the command and its children in one run, in MB."""
        process = self.start()
        root, largest = psutil.Process(process.pid), 0
        while process.poll() is None:
            resident = 0
            for member in (root, *_children(root)):
                try:
                    resident += member.memory_info().rss
                except psutil.Error:  # it has just ended
                    continue
            largest = max(largest, resident)
            time.sleep(_SAMPLE_S)
        process.communicate()
        return largest / 1e6


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def measure(cases: list[Case], repeats: int, seed: int) -> None:
    """Run every case, in random order within a repeat."""
    order = random.Random(seed)
    for _ in range(repeats):
        for case in order.sample(cases, len(cases)):
            case.forget()
            case.first.append(case.run())
            case.again.append(case.run())
    for case in cases:
        for _ in range(3):
            case.forget()
            case.memory.append(case.megabytes())


def table(cases: list[Case]) -> list[str]:
    """Return the printed lines."""
    head = ("commits", "first run, s: median (least to most), CPU", "again, s", "peak memory, MB")
    widths = (8, 42, 32, 20)
    rows = [head]
    for case in cases:
        memory = f"{median(case.memory):.0f} (most {max(case.memory):.0f})"
        rows.append((str(case.commits), _spread(case.first), _spread(case.again), memory))
    lines = [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    small, large = cases[0], cases[-1]
    for name, above, below in (
        ("first run", large.first, small.first),
        ("again", large.again, small.again),
    ):
        for what, index in (("time", 0), ("CPU", 1)):
            over, under = ([took[index] for took in times] for times in (above, below))
            growth = f"{what}({large.commits}) / {what}({small.commits}), {name}: "
            if len(over) >= MIN_PAIRS:
                ratio = ratio_interval(over, under)
                growth += f"{ratio.centre:.1f} [{ratio.low:.1f}, {ratio.high:.1f}] at 95%"
            else:
                growth += f"{median(over) / median(under):.1f}"
            lines.append(growth)
    return lines


def _spread(times: list[RunTime]) -> str:
    passed, cpu = ([took[index] for took in times] for index in (0, 1))
    return f"{median(passed):.2f} ({min(passed):.2f} to {max(passed):.2f}), {median(cpu):.2f}"


def fine(cases: list[Case]) -> bool:
    """Whether the largest history keeps the limits, and time grows no faster than the commits."""
    small, large = cases[0], cases[-1]
    first, again = (median(took.passed for took in times) for times in (large.first, large.again))
    growth = first / median(took.passed for took in small.first)
    return (
        first <= FIRST_LIMIT_S
        and again <= AGAIN_LIMIT_S
        and max(large.memory) <= LIMIT_MB
        and growth <= large.commits / small.commits
    )


def main() -> int:
    """Build, measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--commits", type=int, nargs="+", default=[1_000, 3_000, 10_000])
    parser.add_argument("--tests", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7, help=f"{MIN_PAIRS} for an interval")
    parser.add_argument("--keep", type=int, help="sessions that stay: older ones are pruned")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        cases = [Case(Path(name), commits) for commits in sorted(arguments.commits)]
        for case in cases:
            print(f"building {case.commits} commits ...", file=sys.stderr)
            build(case.folder, case.commits, arguments.tests, arguments.keep, arguments.seed)
        measure(cases, arguments.repeats, arguments.seed)
        print("\n".join(table(cases)))
    kept = fine(cases)
    print(
        f"at most {FIRST_LIMIT_S:g} s, then {AGAIN_LIMIT_S:g} s, {LIMIT_MB:.0f} MB, linear: "
        f"{'yes' if kept else 'NO'}"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    exit_with(main, OSError, RuntimeError, subprocess.CalledProcessError)
