"""Other tools' rules on the same noise as the gate, side by side.

Two designs. "stored": a baseline of one earlier session, 5 processes of 3 iterations in
each, which is what these tools compare. "interleaved": 12 processes of each side in one
session, which is what the gate takes for about as many pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from gate_checks import ALPHA, MAX, Ruling, Settings, judge
from gate_peer_rules import Flags, Missing, Peer, peers
from gate_regimes import REGIMES, Floats, Regime, differences, in_time_order, scattered
from gate_sessions import CHECKS, independent, simulate
from gate_tables import Mean, Rate, Report

STORED_PROCESSES, INTERLEAVED_PROCESSES = 5, 12
EFFECTS = (0.0, 0.05, 0.10)
#: Share of the variance between sessions that all checks of a session have in common.
SESSION_SHARED = 0.5
CHUNK = 100
HEAD = ("regime, rule", "called at 0% %", "at 5% %", "at 10% %", f"any of {CHECKS} at 0% %")


def stored_pair(
    rng: np.random.Generator, regime: Regime, sessions: int, checks: int, iterations: int
) -> tuple[Floats, Floats]:
    """Return two sessions' log durations, each (sessions, checks, processes, iterations)."""
    sides = []
    for _ in range(2):
        values = scattered(rng, regime, (sessions, checks, STORED_PROCESSES), iterations)
        level = rng.normal(0.0, regime.session * math.sqrt(SESSION_SHARED), (sessions, 1))
        own = regime.session * math.sqrt(1.0 - SESSION_SHARED)
        level = level + rng.normal(0.0, own, (sessions, checks))
        sides.append(
            values.reshape(sessions, checks, STORED_PROCESSES, iterations) + level[:, :, None, None]
        )
    return sides[0], sides[1]


def interleaved_pair(
    rng: np.random.Generator, regime: Regime, sessions: int, checks: int, iterations: int
) -> tuple[Floats, Floats]:
    """Return two sides of one session, processes in turn; shapes as ``stored_pair``."""
    processes = 2 * INTERLEAVED_PROCESSES
    values = in_time_order(rng, regime, sessions * checks, processes, iterations)
    values = values.reshape(sessions, checks, processes, iterations)
    return values[:, :, 0::2], values[:, :, 1::2]


DESIGNS = (
    (f"stored: one session against one, {STORED_PROCESSES} processes each", stored_pair),
    (f"interleaved: one session, {INTERLEAVED_PROCESSES} processes each", interleaved_pair),
)


def called(flags: Flags, base: Floats, candidate: Floats) -> int:
    """Count the repetitions that ``flags`` calls; durations (repetitions, processes, iter.)."""
    return sum(flags(a, b) for a, b in zip(base, candidate, strict=True))


def run(report: Report, settings: Settings) -> None:
    """Print both designs, the gate's own rates last."""
    known = peers()
    rules = [peer for peer in known if isinstance(peer, Peer)]
    for place, (title, design) in enumerate(DESIGNS):
        rows: list[Sequence[object]] = []
        for number, regime in enumerate(REGIMES):
            rng = settings.rng(4, place, number)
            alone = design(rng, regime, settings.repetitions, 1, settings.iterations)
            base, candidate = (np.exp(side[:, 0]) for side in alone)
            rates = {peer.name: _alone(peer, base, candidate) for peer in rules}
            families = _families(rules, design, rng, regime, settings)
            for line, peer in enumerate(rules):
                head = f"{regime.name if line == 0 else '':<11}{peer.name}"
                rows.append((head, *rates[peer.name], families[peer.name]))
            if place == 1:
                rows.append(_own(regime, number, settings))
        report.table(f"Peers, {title} x {settings.iterations} iterations", HEAD, rows)
        report.note(
            "each rule by its own code; fewer repetitions where it is slow: see the intervals"
        )
    for missing in known:
        if isinstance(missing, Missing):
            report.note(f"{missing.package} is not installed: pip install -e .[bench]")


def _alone(peer: Peer, base: Floats, candidate: Floats) -> list[Rate]:
    count = max(round(len(base) * peer.share), 1)
    return [
        Rate(called(peer.flags, base[:count], candidate[:count] * (1.0 + effect)), count)
        for effect in EFFECTS
    ]


def _families(
    rules: Sequence[Peer],
    design: object,
    rng: np.random.Generator,
    regime: Regime,
    settings: Settings,
) -> dict[str, Rate]:
    """Return, per rule, the share of sessions of 60 unchanged checks in which it calls any."""
    assert callable(design)
    sessions = max(settings.repetitions // 5, 1)
    hits = {peer.name: 0 for peer in rules}
    asked = {peer.name: 0 for peer in rules}
    for start in range(0, sessions, CHUNK):
        count = min(CHUNK, sessions - start)
        sides = design(rng, regime, count, CHECKS, settings.iterations)
        base, candidate = (np.exp(side) for side in sides)
        for peer in rules:
            flags = peer.in_session(CHECKS)
            for a, b in zip(base, candidate, strict=True):
                if asked[peer.name] >= peer.share * sessions:
                    break
                asked[peer.name] += 1
                hits[peer.name] += any(flags(x, y) for x, y in zip(a, b, strict=True))
    return {peer.name: Rate(hits[peer.name], asked[peer.name]) for peer in rules}


def _own(regime: Regime, number: int, settings: Settings) -> Sequence[object]:
    rng = settings.rng(4, 9, number)
    noise = differences(rng, regime, settings.repetitions, MAX, settings.iterations)
    cells: list[object] = []
    pairs = []
    for effect in EFFECTS:
        outcomes = judge(noise + math.log1p(effect), log_alarm=math.log(1.0 / ALPHA))
        cells.append(outcomes.rate(Ruling.WORSE))
        pairs.append(f"{Mean.of(outcomes.pairs).value:.1f}")
    pair = independent(regime, settings.iterations)
    family = simulate(rng, pair, np.zeros(CHECKS), max(settings.repetitions // 5, 1))
    name = f"{'':<11}this gate, {' / '.join(pairs)} pairs"
    return (name, *cells, family.any_worse())
