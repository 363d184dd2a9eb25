"""Does the measured memory bandwidth of the CPU agree with a compiled STREAM triad?

    python benchmarks/bandwidth.py [--threads 1 2] [--rounds 7] [--json bandwidth.json]

Compiles stream_triad.c with ``cc -O3 -pthread`` and runs it and the plugin's
own stream in turns, in random order, with the same arrays and the same number of
threads, for 1 to all usable cores. Both report the best of equally many passes,
as STREAM does. A round's ratio is ours over the triad's; the median ratio of each
number of threads must lie within 10% of 1. Exit status 0 if all do, 1 if one
does not, 2 if it could not be measured (no compiler, a busy machine).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from exit_status import exit_with

from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.machine.cpu_bandwidth import (
    BYTES_PER_ELEMENT,
    REPETITIONS,
    BandwidthError,
    BusyError,
    array_bytes,
    last_level_cache,
    stream,
)
from pytest_llmperf.machine.free_memory import free_memory

LIMIT = 0.10
_ELEMENT = 8
#: Times a round is repeated because the machine was busy.
_PATIENCE = 20
_USUAL_CACHE = 32 << 20


@dataclass(frozen=True)
class Round:
    """One round: the best bytes per second of the plugin's stream and of the triad."""

    threads: int
    ours: float
    triad: float

    @property
    def ratio(self) -> float:
        """Ours over the triad's."""
        return self.ours / self.triad


def compile_triad(folder: Path) -> Path:
    """Compile the triad.

    Raises:
        RuntimeError: there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("no C compiler (cc, gcc) to compile the triad with")
    program = folder / "stream_triad"
    source = Path(__file__).with_name("stream_triad.c")
    subprocess.run([compiler, "-O3", "-pthread", source, "-o", program], check=True)
    return program


def run_triad(program: Path, threads: int, size: int) -> float:
    """Return the triad's bytes per second: the best pass, leaving out the first."""
    elements = size // _ELEMENT
    arguments = [str(program), str(threads), str(elements), str(REPETITIONS)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    seconds = [float(word) for word in done.stdout.split()]
    return elements * BYTES_PER_ELEMENT / min(seconds[1:])


def measure(program: Path, threads: int, size: int, rounds: int, seed: int) -> list[Round]:
    """Run both in turns; which runs first is random in each round.

    Raises:
        BandwidthError: the machine was busy all the time.
    """
    order, measured = random.Random(seed), list[Round]()
    patience = _PATIENCE
    while len(measured) < rounds:
        ours_first = order.random() < 0.5
        try:
            if ours_first:
                ours = stream(threads, size).bytes_per_s
            triad = run_triad(program, threads, size)
            if not ours_first:
                ours = stream(threads, size).bytes_per_s
        except BusyError:
            patience -= 1
            if patience < 0:
                raise
            continue
        measured.append(Round(threads, ours, triad))
    return measured


def row(rounds: list[Round]) -> str:
    """Return a table row for the rounds of one number of threads."""
    ratios = sorted(run.ratio for run in rounds)
    ours, triad = (median(getattr(run, name) for run in rounds) / 1e9 for name in ("ours", "triad"))
    return (
        f"{rounds[0].threads:>7}  {ours:>6.2f} GB/s  {triad:>6.2f} GB/s  {median(ratios):.3f} "
        f"[{ratios[0]:.3f}, {ratios[-1]:.3f}]  {'yes' if is_within(rounds) else 'NO'}"
    )


def is_within(rounds: list[Round]) -> bool:
    """Whether the median ratio lies within the limit."""
    return abs(median(run.ratio for run in rounds) - 1.0) <= LIMIT


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1 to all usable cores")
    parser.add_argument("--rounds", type=int, default=7, help="of each number of threads")
    parser.add_argument("--seed", type=int, default=1, help="of the order within rounds")
    parser.add_argument("--json", type=Path, help="write every round there")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {arguments.rounds}")
    counts = arguments.threads or range(1, usable_cpus() + 1)
    if bad := [count for count in counts if not 1 <= count <= usable_cpus()]:
        parser.error(f"--threads: expected 1 to {usable_cpus()}, got {bad[0]}")
    cache = last_level_cache()
    size = array_bytes(cache or _USUAL_CACHE, free_memory())
    shown = "unknown" if cache is None else f"{cache >> 20} MiB"
    print(f"3 arrays of {size >> 20} MiB; last-level cache {shown}; {arguments.rounds} rounds")
    print("threads     stream         triad      ratio [min, max]   within 10%")
    results: list[Round] = []
    good = True
    with tempfile.TemporaryDirectory() as name:
        program = compile_triad(Path(name))
        for threads in counts:
            rounds = measure(program, threads, size, arguments.rounds, arguments.seed)
            print(row(rounds), flush=True)
            results += rounds
            good = good and is_within(rounds)
    if arguments.json:
        document = {"array_bytes": size, "rounds": [asdict(result) for result in results]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    exit_with(main, OSError, RuntimeError, BandwidthError, subprocess.CalledProcessError)
