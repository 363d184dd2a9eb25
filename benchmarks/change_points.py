"""How often `llmperf history` marks a change where there is none, and finds one that is there.

    python benchmarks/change_points.py [--series 20000] [--sessions 200] [--step 5%]

Series of a metric over sessions are simulated under four kinds of noise: normal, heavy
tailed (Student's t with 3 degrees of freedom), neighbours correlated by 0.3, and
2% of the sessions stalled. Half of the series never change; the others take a step ten
sessions before their end, which is the hardest place that is still required. If
``ruptures`` is installed, its exact search is shown for comparison, at the penalty 4 ln n.
Exit status 0 if false finds stay below the documented rate under every kind of noise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from pytest_llmperf.history.change_points import SESSIONS_PER_FALSE_FIND, change_points, library
from pytest_llmperf.metrics import METRICS
from pytest_llmperf.stats.proportions import binomial_interval
from pytest_llmperf.units import parse_fraction

Series = NDArray[np.float64]

#: Spread of a session's level, on the log scale.
SPREAD = 0.02
#: Sessions after the step.
AFTER = 10


def normal(random: np.random.Generator, count: int) -> Series:
    """Return independent normal log levels."""
    return random.normal(0.0, SPREAD, count)


def heavy(random: np.random.Generator, count: int) -> Series:
    """Return independent Student's t log levels, 3 degrees of freedom, same standard deviation."""
    values: Series = random.standard_t(3, count) * SPREAD / np.sqrt(3.0)
    return values


def alike(random: np.random.Generator, count: int) -> Series:
    """Return normal log levels of which neighbours are correlated by 0.3."""
    steps = random.normal(0.0, SPREAD * np.sqrt(1.0 - 0.3**2), count)
    steps[0] = random.normal(0.0, SPREAD)
    for i in range(1, count):
        steps[i] += 0.3 * steps[i - 1]
    return steps


def stalled(random: np.random.Generator, count: int) -> Series:
    """Return independent normal log levels, 2% of the sessions 1.3 to 4.5 times slower."""
    slow = np.log(random.uniform(1.3, 4.5, count)) * (random.random(count) < 0.02)
    values: Series = normal(random, count) + slow
    return values


NOISE: dict[str, Callable[[np.random.Generator, int], Series]] = {
    "normal": normal,
    "heavy tails": heavy,
    "neighbours alike": alike,
    "2% stalled": stalled,
}


@dataclass
class Tally:
    """Counts over the series of one kind of noise."""

    marked: int = 0
    series_marked: int = 0
    found: int = 0
    changed: int = 0


def ours(values: Series) -> list[int]:
    """Return the places that the history marks."""
    return [change.index for change in change_points(values, METRICS["end_to_end"])]


def exact(values: Series) -> list[int]:
    """Return the places that an exact search with a usual penalty gives."""
    import ruptures  # type: ignore[import-not-found, unused-ignore]

    logs = np.log(values)
    spread = 1.4826 * float(np.median(np.abs(np.diff(logs)))) / np.sqrt(2.0)
    search = ruptures.KernelCPD(kernel="linear", min_size=5).fit((logs / spread).reshape(-1, 1))
    places: list[int] = search.predict(pen=4.0 * np.log(len(values)))[:-1]
    return places


def tally(
    find: Callable[[Series], list[int]],
    noise: Callable[[np.random.Generator, int], Series],
    series: int,
    sessions: int,
    step: float,
    seed: int,
) -> Tally:
    """Simulate ``series`` series without a change, and a tenth as many with one."""
    random, result = np.random.default_rng(seed), Tally()
    for _ in range(series):
        marked = find(np.exp(noise(random, sessions)))
        result.marked += len(marked)
        result.series_marked += bool(marked)
    place = sessions - AFTER
    for _ in range(max(1, series // 10)):
        logs = noise(random, sessions)
        logs[place:] += np.log1p(step)
        result.changed += 1
        result.found += any(abs(index - place) <= AFTER for index in find(np.exp(logs)))
    return result


def main() -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--series", type=int, default=20_000, help="without a change (20000)")
    parser.add_argument("--sessions", type=int, default=200, help="in each (200)")
    parser.add_argument("--step", type=parse_fraction, default=0.05, help="of the others (5%%)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if library() is None:
        print("change_points: changeforest is not installed: pip install '.[history]'")
        return 2
    finders: dict[str, Callable[[Series], list[int]]] = {"llmperf history": ours}
    if find_spec("ruptures") is not None:
        finders["ruptures, 4 ln n"] = exact
    print(
        f"{arguments.series} series of {arguments.sessions} sessions without a change, "
        f"{max(1, arguments.series // 10)} with a step of {arguments.step:.0%} {AFTER} before the "
        f"end; spread between sessions {SPREAD:.0%}; 95% intervals in brackets\n"
    )
    print("| found by | noise | false per 100,000 sessions | series with one % | step found % |")
    print("| --- | --- | --- | --- | --- |")
    kept = True
    for name, find in finders.items():
        for kind, noise in NOISE.items():
            counts = tally(
                find, noise, arguments.series, arguments.sessions, arguments.step, arguments.seed
            )
            looked = arguments.series * arguments.sessions
            false = counts.marked / looked
            low, high = binomial_interval(min(counts.marked, looked), looked)
            share = binomial_interval(counts.found, counts.changed)
            print(
                f"| {name} | {kind} | {1e5 * false:.2f} [{1e5 * low:.2f}, {1e5 * high:.2f}] "
                f"| {100 * counts.series_marked / arguments.series:.2f} "
                f"| {100 * counts.found / counts.changed:.1f} [{100 * share[0]:.1f}, "
                f"{100 * share[1]:.1f}] |",
                flush=True,
            )
            if find is ours:
                kept &= false <= 1.0 / SESSIONS_PER_FALSE_FIND
    print(
        f"\nat most one in {SESSIONS_PER_FALSE_FIND:,} sessions: {'kept' if kept else 'NOT KEPT'}"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
