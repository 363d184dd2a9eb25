"""How often the gate calls an unchanged engine slower beside each kind of busy process.

    python benchmarks/neighbours.py --file neighbours.jsonl [--blocks 12] [--budget 30m]
    python benchmarks/neighbours.py --file neighbours.jsonl --report [--tolerance 2%]

Both sides are the same configuration of the embedded model, and their processes take turns of
tokens. The engine has one thread and so leaves a core to the neighbour; ``busy_threads.py`` shows
what happens otherwise. Blocks of pairs beside every kind of neighbour
(``busy_neighbour.py``; ``none`` has no neighbour) are measured in random order and kept in the
file; a later run continues where this one stopped. The gate then judges sessions made of these
pairs, with the metrics that a perf test gates by default, at one tolerance:

- as measured: consecutive sessions, each with the pairs that follow those of the one before;
- resampled: many sessions, each of runs of consecutive pairs, drawn at random, with the sides
  swapped at random (they are the same). The interval is what other pools of as many blocks would
  give: the blocks, too, are drawn at random, many times. It misses events too rare to be in any
  block; the interval of the sessions as measured allows for them.

Printed for each kind: the robust spread of the pairs' differences, and the shares of sessions with
a false alarm, both unchanged and with every metric slower by the negligible share.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from busy_neighbour import KINDS, busy_neighbour
from exit_status import exit_with
from gate_checks import ALPHA, FIRST, LOG_PASS, MAX
from gate_regimes import Bools, Floats
from gate_tables import Rate
from numpy.typing import NDArray
from outcomes import Outcomes
from turns import METRICS, block, plan_of, record, spec_of, spread

from pytest_llmperf.arguments import duration, tolerance, whole_number
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.stats.paired import Zone, clip_floor, look, may_be_called

NONE = "none"
#: Pairs of a run that is resampled as a whole.
RUN = 4
#: Pools that are drawn for the interval, and sessions of each.
POOLS, SESSIONS = 200, 200
#: Log evidence for a false alarm of any of the metrics: e-Holm's first threshold, which the
#: first alarm of a session has to reach.
LOG_ALARM = math.log(len(METRICS) / ALPHA)

#: Differences of a block's pairs on the log scale, (pairs, metrics).
Pairs = Floats


@dataclass(frozen=True)
class Judged:
    """Sessions that the gate has judged, arrays of shape (sessions,).

    Attributes:
        alarm: any metric was called slower.
        passed: all metrics passed.
        pairs: pairs until every metric was decided, or all of them.
    """

    alarm: Bools
    passed: Bools
    pairs: NDArray[np.int64]


def judge(d: Floats, tolerated: float) -> Judged:
    """Judge sessions of differences ``d``, (sessions, metrics, pairs), after each pair."""
    zone, clip_min = Zone.of(tolerated), clip_floor(tolerated)
    sessions, metrics, pairs = d.shape
    worse, fine = np.zeros((2, sessions, metrics))
    called, passed = np.zeros((2, sessions, metrics), dtype=np.bool_)
    taken = np.full(sessions, pairs)
    going = np.arange(sessions)
    for n in range(FIRST, pairs + 1):
        latest = look(d[going, :, :n], zone, clip_min)
        worse[going] = np.maximum(worse[going], latest.log_e_worse)
        fine[going] = np.maximum(fine[going], latest.log_e_fine)
        called[going] = (worse[going] >= LOG_ALARM) & may_be_called(latest, zone)
        passed[going] = ~called[going] & (fine[going] >= LOG_PASS) & (latest.mean < zone.tolerance)
        decided = (called[going] | passed[going]).all(axis=1)
        taken[going[decided]] = n
        going = going[~decided]
        if not len(going):
            break
    return Judged(np.any(called, axis=1), np.all(passed, axis=1), taken)


def in_order(blocks: Sequence[Pairs], tolerated: float) -> Rate:
    """Return the share of false alarms in consecutive sessions, as measured."""
    pairs = np.concatenate(blocks)
    alarms, sessions, at = 0, 0, 0
    while len(pairs) - at >= FIRST:
        session = judge(pairs[None, at : at + MAX].transpose(0, 2, 1), tolerated)
        at += int(session.pairs[0])
        if at >= len(pairs) and not (session.alarm[0] or session.passed[0]):
            break  # its pairs ended before it was decided
        alarms, sessions = alarms + int(session.alarm[0]), sessions + 1
    return Rate(alarms, sessions)


def resampled(rng: np.random.Generator, blocks: Sequence[Pairs], sessions: int) -> Floats:
    """Draw sessions of MAX pairs from runs of consecutive pairs, (sessions, metrics, MAX)."""
    runs = -(-MAX // RUN)
    every = np.stack([d[at : at + RUN] for d in blocks for at in range(len(d) - RUN + 1)])
    drawn = every[rng.integers(0, len(every), (sessions, runs))]
    # Within a run the sides stay as they were, so that a bias that lasts for a while counts.
    drawn = drawn * rng.choice([-1.0, 1.0], (sessions, runs, 1, 1))
    flat: Floats = drawn.reshape(sessions, runs * RUN, -1)[:, :MAX].transpose(0, 2, 1)
    return flat


def rates(blocks: Sequence[Pairs], tolerated: float, seed: int) -> list[str]:
    """Return the cells of a kind's row: false alarms, passes and pairs of resampled sessions."""
    negligible = Zone.of(tolerated).negligible
    rng = np.random.default_rng(seed)
    pools = []
    for number in range(POOLS + 1):
        # The first is the pool itself.
        some = [blocks[n] for n in rng.integers(0, len(blocks), len(blocks))] if number else blocks
        sessions = SESSIONS if number else 10 * SESSIONS
        d = resampled(rng, some, sessions)
        unchanged, edge = judge(d, tolerated), judge(d + negligible, tolerated)
        pools.append([flags.mean() for flags in (unchanged.alarm, edge.alarm, unchanged.passed)])
        if not number:
            pairs = float(unchanged.pairs.mean())
    own, others = pools[0], np.array(pools[1:])
    low, high = np.quantile(others, [0.025, 0.975], axis=0)
    cells = [
        f"{100 * rate:.2f} [{100 * below:.2f}, {100 * above:.2f}]"
        for rate, below, above in zip(own, low, high, strict=True)
    ]
    return [*cells, f"{pairs:.1f}"]


def report(outcomes: Sequence[Mapping[str, Any]], tolerated: float, seed: int) -> None:
    """Print the table."""
    print(
        f"Sessions of {len(METRICS)} metrics at a tolerance of {tolerated:.1%}, declared false "
        f"alarms {ALPHA:.0%}; per cent [95%]"
    )
    names = "".join(f"{name:>17}" for name in METRICS)
    print(f"{'neighbour':<10}{'blocks':>7}{'pairs':>6}{names}{'as measured':>25}", end="")
    print(f"{'unchanged':>25}{'negligible':>25}{'all pass':>25}{'pairs each':>12}", flush=True)
    for kind in (NONE, *KINDS):
        blocks = [
            np.array([outcome["differences"][name] for name in METRICS]).T
            for outcome in outcomes
            if outcome["kind"] == kind and not outcome["apart"]
        ]
        apart = sum(outcome["kind"] == kind and bool(outcome["apart"]) for outcome in outcomes)
        if apart:
            print(f"{kind}: {apart} blocks left out, whose processes ran one after the other")
        blocks = [d for d in blocks if len(d) >= RUN]
        if not blocks:
            continue
        pairs = np.concatenate(blocks)
        spreads = "".join(f"{spread(list(column)):>17.2%}" for column in pairs.T)
        measured = str(in_order(blocks, tolerated))
        cells = rates(blocks, tolerated, seed)
        print(f"{kind:<10}{len(blocks):>7}{len(pairs):>6}{spreads}{measured:>25}", end="")
        print("".join(f"{cell:>25}" for cell in cells[:-1]) + f"{cells[-1]:>12}", flush=True)


def main() -> int:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=whole_number(), default=12, help="of each kind (12)")
    parser.add_argument(
        "--pairs", type=whole_number(RUN), default=8, help="in turns, of a block (8)"
    )
    parser.add_argument("--kinds", nargs="+", choices=(NONE, *KINDS), default=[NONE, *KINDS])
    parser.add_argument("--threads", type=whole_number(), default=1, help="of the engine (1)")
    parser.add_argument("--tokens", type=whole_number(2), default=32, help="of an answer (32)")
    parser.add_argument("--tolerance", type=tolerance, default=0.05, help="of the gate (5%%)")
    parser.add_argument(
        "--budget", type=duration, default=math.inf, help="begin no block after so long, as 30m"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--seed", type=int, default=1)
    Outcomes.add_argument(parser)
    arguments = parser.parse_args()
    conditions = {name: getattr(arguments, name) for name in ("pairs", "threads", "tokens")}
    outcomes = Outcomes(arguments.file, conditions)
    if not arguments.report:
        measure(arguments, outcomes)
    report(outcomes.all, arguments.tolerance, arguments.seed)
    return 0


def measure(arguments: argparse.Namespace, outcomes: Outcomes) -> None:
    """Measure the blocks that are not in the file, as long as the budget allows."""
    done = {(outcome["block"], outcome["kind"]) for outcome in outcomes.all}
    until = time.monotonic() + arguments.budget
    spec = spec_of(arguments.threads)
    workload = record(spec, arguments.tokens)
    for number in range(1, arguments.blocks + 1):
        kinds = [kind for kind in arguments.kinds if (number, kind) not in done]
        for kind in random.sample(kinds, len(kinds)):
            if time.monotonic() > until:
                return
            seed = random.getrandbits(32)
            # The first pair runs one process after the other, to show that both fit side by side.
            plan = plan_of(workload, arguments.pairs, 3, seed)
            with busy_neighbour(None if kind == NONE else kind, seed):
                result = block(spec, spec, plan, "tokens")
            outcomes.add(
                {
                    "block": number,
                    "kind": kind,
                    "seconds": result.seconds,
                    "apart": result.apart,
                    "differences": {name: list(d) for name, d in result.differences.items()},
                }
            )
            print(
                f"block {number} {kind}: {result.seconds:.0f} s {result.apart}",
                file=sys.stderr,
                flush=True,
            )


if __name__ == "__main__":
    exit_with(main, EngineError)
