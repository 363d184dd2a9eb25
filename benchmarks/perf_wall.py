"""How long ``make perf`` takes once everything is set up, and how much of that is generation.

    python benchmarks/perf_wall.py --runs 5

Each run is the whole command, from make to exit; generation is what the
session's own JSON report says, bodies and replays together, warm-up included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def one_run(report: Path) -> tuple[float, float]:
    """Run ``make perf`` once; return its wall time and its generation time in seconds."""
    began = time.monotonic()
    finished = subprocess.run(
        ["make", "perf", f"ARGS=-p no:cacheprovider --llmperf-json '{report}'"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.monotonic() - began
    if not report.exists():
        raise SystemExit(f"make perf wrote no report:\n{finished.stdout}{finished.stderr}")
    session = json.loads(report.read_text(encoding="utf-8"))["session"]
    return wall, session["generation_s"] + session["recording_generation_s"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="how many runs (default 3)")
    runs = parser.parse_args().runs
    subprocess.run(["make", "--silent", "setup"], cwd=ROOT, check=True)
    walls, shares = [], []
    print(f"{'run':>4} {'wall s':>8} {'generation s':>13} {'share':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, runs + 1):
            wall, generation = one_run(Path(folder) / f"{number}.json")
            walls.append(wall)
            shares.append(generation / wall)
            print(f"{number:>4} {wall:>8.1f} {generation:>13.1f} {generation / wall:>7.1%}")
    print(
        f"median {statistics.median(walls):.1f} s ({min(walls):.1f} to {max(walls):.1f}), "
        f"{statistics.median(shares):.1%} of it inside generation "
        f"({min(shares):.1%} to {max(shares):.1%})"
    )


if __name__ == "__main__":
    main()
