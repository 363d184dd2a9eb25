"""The rules of other tools, each by its own code, as functions of two samples of durations.

A rule gets two arrays (processes, iterations) in seconds, baseline and candidate, and says
whether it calls the candidate slower. Rules whose own code is slow run it only where the
point estimate already lies beyond their threshold: below it they cannot fire.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import numpy as np
from gate_regimes import Floats

Flags = Callable[[Floats, Floats], bool]

#: The fewest resamples that benchmatrix accepts; its default, 50,000, takes 0.2 s a check.
RESAMPLES = 1000


@dataclass(frozen=True)
class Peer:
    """One rule of another tool.

    Attributes:
        name: as printed.
        package: the distribution and module it comes from.
        flags: the rule for a session of one check.
        flags_of: the same for a session of that many checks, where the tool corrects for them.
        share: of the repetitions on which it is run, below 1 because it is slow.
    """

    name: str
    package: str
    flags: Flags
    flags_of: Callable[[int], Flags] | None = None
    share: float = 1.0

    def in_session(self, checks: int) -> Flags:
        """Return the rule as it is applied in a session of ``checks`` checks."""
        return self.flags if self.flags_of is None else self.flags_of(checks)


@dataclass(frozen=True)
class Missing:
    """A peer that is not installed here."""

    package: str


def peers() -> list[Peer | Missing]:
    """Return every peer, or that it is missing."""
    known: tuple[tuple[str, str, Callable[[], list[Peer]]], ...] = (
        ("pytest-benchmark", "pytest_benchmark", _pytest_benchmark),
        ("asv", "asv", _asv),
        ("inference-doctor", "inference_doctor", _inference_doctor),
        ("benchmatrix", "benchmatrix", _benchmatrix),
    )
    out: list[Peer | Missing] = []
    for package, module, make in known:
        out.extend(make() if importlib.util.find_spec(module) else [Missing(package)])
    return out


def _pytest_benchmark() -> list[Peer]:
    """Return ``--benchmark-compare-fail=mean:5%`` and ``median:5%``, over all rounds."""
    check_of = import_module("pytest_benchmark.utils").PercentageRegressionCheck
    summaries: dict[str, Callable[[Floats], float]] = {"mean": np.mean, "median": np.median}

    def flags(field: str, base: Floats, candidate: Floats) -> bool:
        check = check_of(field, 5)
        of = summaries[field]
        return check.fails({field: of(candidate)}, {field: of(base)}) is not None

    return [
        Peer(f"pytest-benchmark {field}:5%", "pytest-benchmark", partial(flags, field))
        for field in summaries
    ]


def _asv() -> list[Peer]:
    """Return ``asv compare``: medians apart by a factor, Mann-Whitney p < 0.002 on all samples."""
    is_better = import_module("asv.commands.compare")._is_result_better
    compute_stats = import_module("asv_runner.statistics").compute_stats

    def flags(factor: float, base: Floats, candidate: Floats) -> bool:
        if np.median(candidate) <= factor * np.median(base):
            return False
        sides = [samples.ravel().tolist() for samples in (base, candidate)]
        (low, low_stats), (high, high_stats) = (compute_stats(side, 1) for side in sides)
        both = (low_stats, sides[0]), (high_stats, sides[1])
        return bool(is_better(low, high, *both, factor))

    return [Peer(f"asv factor {factor}", "asv", partial(flags, factor)) for factor in (1.1, 1.05)]


def _inference_doctor() -> list[Peer]:
    """Return ``compare-runs``: 90% Welch interval of the ratio of means wholly at or past 10%."""
    quality = import_module("inference_doctor.quality")

    def flags(
        percent: float, summary: Callable[..., Floats], base: Floats, candidate: Floats
    ) -> bool:
        sides = [summary(side, axis=-1) for side in (base, candidate)]
        if sides[1].mean() < (1.0 + percent / 100.0) * sides[0].mean():
            return False
        decision = quality.decide_regression(
            sides[0].tolist(),
            sides[1].tolist(),
            lower_is_better=True,
            thresholds=quality.QualityThresholds(regression_percent=percent),
        )
        return bool(decision.status == "FAIL")

    return [
        Peer("inference-doctor 10%, means", "inference-doctor", partial(flags, 10.0, np.mean)),
        Peer("inference-doctor 5%, medians", "inference-doctor", partial(flags, 5.0, np.median)),
    ]


def _benchmatrix() -> list[Peer]:
    """Return its rule: 95% BCa bootstrap interval of the ratio of run medians wholly past 5%."""
    interval_of = import_module("benchmatrix.bench_statistics").bootstrap_median_ratio_interval

    def flags(level: float, base: Floats, candidate: Floats) -> bool:
        sides = [np.median(side, axis=-1) for side in (base, candidate)]
        if np.median(sides[1]) <= 1.05 * np.median(sides[0]):
            return False
        interval = interval_of(
            sides[0].tolist(),
            sides[1].tolist(),
            lower_is_better=True,
            confidence_level=level,
            resamples=RESAMPLES,
            random_seed=0,
        )
        # Its effect is the improvement in per cent.
        return bool(interval.adequate and interval.high < -5.0)

    def of(checks: int) -> Flags:
        return partial(flags, 1.0 - 0.05 / checks)

    return [Peer("benchmatrix 5%, BCa", "benchmatrix", partial(flags, 0.95), of, share=0.1)]
