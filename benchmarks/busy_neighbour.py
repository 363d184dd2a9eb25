"""A process that takes one core in bursts of random length, about half of the time.

python benchmarks/busy_neighbour.py [--shortest 0.3] [--longest 3] [--share 0.5] [--seed 1]

Other benchmarks start it as the machine's neighbour (``--neighbour``).
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator


def main() -> None:
    """Work and rest in turn until the process is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shortest", type=float, default=0.3, help="burst, seconds")
    parser.add_argument("--longest", type=float, default=3.0, help="burst, seconds")
    parser.add_argument("--share", type=float, default=0.5, help="of the time at work")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    order = random.Random(arguments.seed)
    while True:
        burst = order.uniform(arguments.shortest, arguments.longest)
        until = time.monotonic() + burst
        while time.monotonic() < until:
            sum(range(10_000))
        rest = order.uniform(0.5, 1.5) * burst * (1 / arguments.share - 1)
        time.sleep(rest)


@contextlib.contextmanager
def busy_neighbour(*, wanted: bool, seed: int = 1) -> Iterator[None]:
    """Have a neighbour while the block runs, if wanted."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, __file__, "--seed", str(seed)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
