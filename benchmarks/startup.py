"""How much time does the plugin add to pytest's start-up when there is no perf test?

    python benchmarks/startup.py [--pairs 60] [--json startup.json]

Pairs of fresh ``pytest --collect-only -q`` runs on an empty test file, one with
the plugin loaded through its entry point and one with ``-p no:llmperf``, in
random order. Exit status 0 if the difference's 95% interval lies below the
limit and nothing heavy was imported; 1 if not; 2 if it could not be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from exit_status import exit_with
from paired import MIN_PAIRS, Interval, signed_rank_interval

LIMIT_MS = 12.0
HEAVY = ("llama_cpp", "numpy", "scipy", "pynvml", "pydantic")
WITHOUT = ("-p", "no:llmperf")

_LOADED = f"""
import sys, pytest
status = pytest.main(sys.argv[1:])
print(status.value, "pytest_llmperf.plugin" in sys.modules, *[
    name for name in {HEAVY!r} if name in sys.modules
])
"""


def empty_project(folder: Path) -> None:
    """Write a project of one empty test file; its ini file ends the search for others."""
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "test_empty.py").touch()


def arguments_of(*, plugin: bool) -> list[str]:
    """Return pytest's arguments."""
    return ["--collect-only", "-q", *(() if plugin else WITHOUT), "test_empty.py"]


class Times(NamedTuple):
    """Milliseconds that one run took: wall time, and CPU time (which load disturbs less)."""

    wall: float
    cpu: float


def time_once(folder: Path, *, plugin: bool) -> Times:
    """Time one run.

    Raises:
        RuntimeError: pytest did not end with "no tests collected".
    """
    command = [sys.executable, "-m", "pytest", *arguments_of(plugin=plugin)]
    started, used = time.perf_counter(), children_cpu()
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    times = Times((time.perf_counter() - started) * 1000, (children_cpu() - used) * 1000)
    if done.returncode != 5:
        raise RuntimeError(f"pytest ended with status {done.returncode}:\n{done.stdout[-2000:]}")
    return times


def children_cpu() -> float:
    """Return the CPU seconds of all children that have ended, and of their own children."""
    if sys.platform == "win32":
        return 0.0
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def heavy_imports(folder: Path) -> tuple[bool, list[str]]:
    """Return whether the plugin was loaded, and the heavy modules only it brought in."""
    seen = []
    for plugin in (True, False):
        command = [sys.executable, "-c", _LOADED, *arguments_of(plugin=plugin)]
        done = subprocess.run(
            command, cwd=folder, env=_environment(), capture_output=True, text=True, check=True
        )
        seen.append(done.stdout.splitlines()[-1].split()[1:])
    (loaded, *with_plugin), (_, *without) = seen
    return loaded == "True", [name for name in with_plugin if name not in without]


def _environment() -> dict[str, str]:
    # The caller's own options would be measured too.
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "LLMPERF_"))}


def measure(folder: Path, pairs: int, seed: int) -> list[tuple[Times, Times]]:
    """Return (with, without) per pair; two extra pairs at the start warm the disk cache."""
    order = random.Random(seed)
    results = []
    for number in range(pairs + 2):
        sides = [True, False]
        order.shuffle(sides)
        times = {plugin: time_once(folder, plugin=plugin) for plugin in sides}
        if number >= 2:
            results.append((times[True], times[False]))
    return results


def added(results: list[tuple[Times, Times]], clock: str) -> Interval:
    """Return what the plugin adds on one clock, ms."""
    return signed_rank_interval([getattr(a, clock) - getattr(b, clock) for a, b in results])


def table(results: list[tuple[Times, Times]]) -> list[str]:
    """Return the printed table."""
    lines = [f"{'ms':10}{'with plugin':>14}{'without':>12}{'the plugin adds (95%)':>30}"]
    for clock in Times._fields:
        sides = [
            median(getattr(side, clock) for side in both) for both in zip(*results, strict=True)
        ]
        more = added(results, clock)
        shown = f"{more.centre:.1f} [{more.low:.1f}, {more.high:.1f}]"
        lines.append(f"{clock:10}{sides[0]:14.1f}{sides[1]:12.1f}{shown:>30}")
    verdict = "yes" if added(results, "wall").high <= LIMIT_MS else "NO"
    lines.append(f"medians of {len(results)} runs; differences: Hodges-Lehmann over pairs")
    lines.append(f"adds at most {LIMIT_MS:.0f} ms on the wall: {verdict}")
    return lines


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--pairs", type=int, default=60, help=f"at least {MIN_PAIRS}")
    parser.add_argument("--seed", type=int, default=1, help="of the order within pairs")
    parser.add_argument("--json", type=Path, help="write every sample there")
    arguments = parser.parse_args()
    if arguments.pairs < MIN_PAIRS:
        parser.error(f"--pairs: expected at least {MIN_PAIRS}, got {arguments.pairs}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty_project(folder)
        loaded, heavy = heavy_imports(folder)
        if not loaded:
            raise RuntimeError(
                f"the plugin is not installed in {sys.executable}: run make setup, and use "
                ".venv/bin/python"
            )
        results = measure(folder, arguments.pairs, arguments.seed)
    print("\n".join(table(results)))
    print(f"heavy modules imported because of it: {', '.join(heavy) or 'none'}")
    if arguments.json:
        document = {
            "unit": "ms",
            "with": [a for a, _ in results],
            "without": [b for _, b in results],
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if added(results, "wall").high <= LIMIT_MS and not heavy else 1


if __name__ == "__main__":
    exit_with(main, OSError, RuntimeError, subprocess.CalledProcessError)
