"""A process that disturbs its neighbours: it takes a core, steadily or in bursts, or memory.

    python benchmarks/busy_neighbour.py [KIND] [--seed 1]

Other benchmarks start it as the machine's neighbour (``--neighbour KIND``). Kinds:

    steady    one core, all the time
    bursts    one core in bursts of 0.3 to 3 s, half of the time
    memory    copies a buffer far larger than the caches, on one core, all the time
    pulses    one core, 60 ms of every 120 ms: in the rhythm of turns of tokens
    jittered  one core for 30 to 90 ms, then a pause of 30 to 90 ms
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from pytest_llmperf.measure.turns import SPIN_SECONDS, TURN_SECONDS

#: Seconds of a pulse, as long as a turn of tokens; shortest and longest burst.
PULSE, BURST = TURN_SECONDS + SPIN_SECONDS, (0.3, 3.0)
#: Bytes of the buffer that is copied, and of each copy.
BUFFER, CHUNK = 256 << 20, 8 << 20


def steady(order: random.Random) -> None:
    """Take a core."""
    while True:
        work(1.0)


def bursts(order: random.Random) -> None:
    """Take a core in bursts of random length, half of the time."""
    while True:
        burst = order.uniform(*BURST)
        work(burst)
        time.sleep(order.uniform(0.5, 1.5) * burst)


def memory(order: random.Random) -> None:
    """Copy one half of a large buffer to the other."""
    buffer = memoryview(bytearray(BUFFER))
    half = BUFFER // 2
    while True:
        for start in range(0, half, CHUNK):
            buffer[half + start : half + start + CHUNK] = buffer[start : start + CHUNK]


def pulses(order: random.Random) -> None:
    """Take a core for half of each period; the periods follow a clock."""
    due = time.monotonic() + order.uniform(0.0, 2 * PULSE)
    while True:
        time.sleep(max(due - time.monotonic(), 0.0))
        work(due + PULSE - time.monotonic())
        # A pulse that got no core is not made up for.
        due = max(due + 2 * PULSE, time.monotonic())


def jittered(order: random.Random) -> None:
    """Take a core in pulses of random length, with pauses of random length."""
    while True:
        work(order.uniform(0.5, 1.5) * PULSE)
        time.sleep(order.uniform(0.5, 1.5) * PULSE)


KINDS: dict[str, Callable[[random.Random], None]] = {
    kind.__name__: kind for kind in (steady, bursts, memory, pulses, jittered)
}


def work(seconds: float) -> None:
    """Compute for ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


def end_with(parent: int) -> None:
    """End this process soon after its parent, because a killed parent can't end it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def add_neighbour_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--neighbour``, which may name a kind."""
    parser.add_argument(
        "--neighbour",
        nargs="?",
        const="bursts",
        choices=KINDS,
        metavar="KIND",
        help=f"beside a busy process: {', '.join(KINDS)} (default: bursts)",
    )


@contextlib.contextmanager
def busy_neighbour(kind: str | None, seed: int = 1) -> Iterator[None]:
    """Run a neighbour of this kind during the block; None runs none."""
    if kind is None:
        yield
        return
    process = subprocess.Popen([sys.executable, __file__, kind, "--seed", str(seed)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Disturb until this process or its parent is ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", nargs="?", choices=KINDS, default="bursts", metavar="KIND")
    parser.add_argument("--seed", type=int, default=1, help="of its random lengths (default 1)")
    arguments = parser.parse_args()
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    KINDS[arguments.kind](random.Random(arguments.seed))


if __name__ == "__main__":
    main()
