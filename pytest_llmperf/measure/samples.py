"""Samples of a measurement, by test, process and pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.measure.neighbours import kind_of_turns, pair_difference, shapes_of
from pytest_llmperf.measure.process_sample import BASE as BASE
from pytest_llmperf.measure.process_sample import CANDIDATE as CANDIDATE
from pytest_llmperf.measure.process_sample import WHOLE
from pytest_llmperf.measure.process_sample import ProcessSample as ProcessSample
from pytest_llmperf.measure.process_sample import TurnSamples as TurnSamples
from pytest_llmperf.metrics import Metric, percentile_parts

#: One row of values per process; for a percentile, one row with one value per group of processes.
Rows = tuple[tuple[float, ...], ...]


@dataclass
class TestSamples:
    """All samples of one test.

    Attributes:
        processes: valid samples of all sides, in order.
        voided: samples that must not be judged, kept for counts and reports.
        error: why the test could not be measured at all.
        budget_reached: whether a time budget ran out before the test was decided.
        own_budget: whether that budget was the test's own, not the session's.
        given_up: whether the test was given up because too many samples were void.
        seconds: wall time spent replaying it, warm-up included.
        earlier: number of pairs from earlier sessions.
        loaded: by side, what its newest engine had loaded for the test.
    """

    __test__ = False

    processes: list[ProcessSample] = field(default_factory=list)
    voided: list[ProcessSample] = field(default_factory=list)
    error: str | None = None
    budget_reached: bool = False
    own_budget: bool = False
    given_up: bool = False
    seconds: float = 0.0
    earlier: int = 0
    loaded: dict[str, EngineInfo] = field(default_factory=dict)

    def of_this_session(self) -> TestSamples:
        """Return the samples without the pairs of earlier sessions."""
        own = [sample for sample in self.processes if sample.process >= 0]
        return replace(self, processes=own, earlier=0)

    def undisturbed(self) -> TestSamples:
        """Return the samples without disturbed ones, of which only paired differences count."""
        return replace(self, processes=[s for s in self.processes if not s.disturbed])

    def of_side(self, side: str) -> TestSamples:
        """Return the samples of one side only."""
        valid, void = (
            [s for s in samples if s.side == side] for samples in (self.processes, self.voided)
        )
        return replace(self, processes=valid, voided=void)

    @property
    def pairs(self) -> int:
        """Number of complete pairs: both processes valid."""
        return sum(1 for _ in self._pairs())

    @property
    def pairs_without_turns(self) -> int:
        """Number of pairs whose processes ran one after the other, if other pairs took turns."""
        kinds = self._by_kind_of_turns(WHOLE)
        return len(kinds.get(0, ())) if _judged_kind(kinds) else 0

    @property
    def judged_count(self) -> int:
        """Number of samples for a verdict: complete pairs, or processes if there is one side."""
        both = (*self.processes, *self.voided)
        return self.pairs if any(s.pair is not None for s in both) else len(self.processes)

    @property
    def void_pairs(self) -> int:
        """Number of pairs that do not count because a process was void."""
        return len({sample.pair for sample in self.voided if sample.pair is not None})

    def values(self, metric: str, side: str = CANDIDATE) -> Rows:
        """Return one side's values of a metric, processes x iterations.

        A percentile (``inter_token_p95``) has one value per group of consecutive processes.
        Empty if the metric is undefined or there are too few values for the percentile.
        """
        if (parts := percentile_parts(metric)) is not None:
            return _percentiles(self.pooled_rows(parts[0], side), parts[1])
        rows = (sample.row(metric) for sample in self.processes if sample.side == side)
        return tuple(row for row in rows if row)

    def paired(self, metric: str) -> tuple[Rows, Rows]:
        """Return a metric's values (candidate, base) in complete pairs, each as ``values`` does.

        Row i of both belongs to the same pair (or group of pairs).
        """
        if (parts := percentile_parts(metric)) is not None:
            candidate, base = (_percentiles(r, parts[1]) for r in self.paired_pooled(parts[0]))
            groups = min(len(candidate), len(base))
            return candidate[:groups], base[:groups]
        return _apart((a.row(metric), b.row(metric)) for a, b in self._judged_pairs(metric))

    def differences(self, metric: Metric) -> tuple[float, ...] | None:
        """Return the difference of each pair in ``paired`` on the log scale; positive is worse.

        None for a percentile, whose values belong to no single pair.

        Raises:
            ValueError: a sample has a value that the metric can't have.
        """
        if percentile_parts(metric.name) is not None:
            return None
        pairs = self._judged_pairs(metric.name)
        shapes = shapes_of(pairs)
        return tuple(pair_difference(metric, *pair, shapes) for pair in pairs)

    def differences_without_turns(self, metric: Metric) -> tuple[float, ...] | None:
        """Return the difference of each pair whose processes ran one after the other.

        None if such pairs decide the metric, because most pairs did not take turns.

        Raises:
            ValueError: as ``differences``.
        """
        kinds = self._by_kind_of_turns(metric.name)
        if _judged_kind(kinds) == 0:
            return None
        return tuple(pair_difference(metric, *pair) for pair in kinds.get(0, ()))

    def paired_durations(self) -> tuple[Rows, Rows]:
        """Return end-to-end seconds (candidate, base), replays in turns of tokens included."""
        return _apart((a.durations(), b.durations()) for a, b in self._pairs())

    def stalls(self) -> tuple[int, ...]:
        """Return how many replays stalled: (candidate, base) of the pairs, else (candidate,).

        ``ProcessSample.stalls`` defines a stall.
        """
        if self.pairs:
            return tuple(
                sum(half.stalls() for half in side) for side in zip(*self._pairs(), strict=True)
            )
        return (sum(s.stalls() for s in self.processes if s.side == CANDIDATE),)

    def pooled_rows(self, source: str, side: str) -> Rows:
        """Return one side's raw values of ``source``: a row of seconds per process."""
        rows = (sample.pooled.get(source, ()) for sample in self.processes if sample.side == side)
        return tuple(row for row in rows if row)

    def paired_pooled(self, source: str) -> tuple[Rows, Rows]:
        """Return the raw values (candidate, base) of ``source``: a row per complete pair."""
        return _apart(
            (a.pooled.get(source, ()), b.pooled.get(source, ())) for a, b in self._pairs()
        )

    def _judged_pairs(self, metric: str) -> list[tuple[ProcessSample, ProcessSample]]:
        """Return the pairs that decide a metric; all took the same kind of turns.

        Differences are not equally noisy with each kind of turns.
        """
        kinds = self._by_kind_of_turns(metric)
        return kinds.get(_judged_kind(kinds), [])

    def _by_kind_of_turns(self, metric: str) -> _Kinds:
        kinds: _Kinds = {}
        for a, b in self._pairs():
            if a.row(metric) and b.row(metric):
                kinds.setdefault(kind_of_turns(metric, a, b), []).append((a, b))
        if 2 in kinds and 0 in kinds:
            # A pair that took turns of tokens for other metrics only did not run alone.
            kinds[0] = [pair for pair in kinds[0] if any(half.turns is None for half in pair)]
        return kinds

    def _pairs(self) -> Iterator[tuple[ProcessSample, ProcessSample]]:
        """Yield (candidate, base) of every complete pair, in order."""
        halves: dict[int, ProcessSample] = {}
        for sample in self.processes:
            if sample.pair is None:
                continue
            other = halves.pop(sample.pair, None)
            if other is None:
                halves[sample.pair] = sample
            else:
                yield (sample, other) if sample.side == CANDIDATE else (other, sample)


_Kinds = dict[int, list[tuple[ProcessSample, ProcessSample]]]


def _judged_kind(kinds: _Kinds) -> int:
    """Return the finest kind of turns with over half as many pairs as the most common kind.

    If taking turns failed, pairs without turns decide; some pairs run alone on purpose.
    """
    largest = max(map(len, kinds.values()), default=0)
    return max((kind for kind, pairs in kinds.items() if 2 * len(pairs) > largest), default=0)


def _apart(pairs: Iterable[tuple[tuple[float, ...], tuple[float, ...]]]) -> tuple[Rows, Rows]:
    """Split pairs of rows by side, without the pairs in which a row is empty."""
    both = [(a, b) for a, b in pairs if a and b]
    return tuple(a for a, _ in both), tuple(b for _, b in both)


def _percentiles(rows: Rows, percent: float) -> Rows:
    from pytest_llmperf.stats.percentiles import pooled

    return pooled(rows, percent)


@dataclass
class Measurement:
    """Result of a measure stage.

    Attributes:
        tests: samples of each test, by node id.
        seed: seed of the random order.
        seconds: wall time of the stage.
        generating_seconds: the part spent inside generation, warm-up included.
        processes: number of engine processes started.
        waited: the part of ``seconds`` spent waiting for the machine to be quiet.
        why_not_side_by_side: why processes that could run side by side ran one after the other; or
            empty.
    """

    tests: dict[str, TestSamples]
    seed: int
    seconds: float = 0.0
    generating_seconds: float = 0.0
    processes: int = 0
    waited: float = 0.0
    why_not_side_by_side: str = ""

    @property
    def spent(self) -> float:
        """Seconds of the budget that the stage used; waiting does not count."""
        return self.seconds - self.waited
