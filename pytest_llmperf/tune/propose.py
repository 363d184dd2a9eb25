"""Proposals of a search, in order: diagnosis, one key at a time, the sampler, neighbours.

Every decision rests on the points of the study alone, so that a stopped search can continue and
several workers don't repeat each other's work.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, product
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pytest_llmperf.diagnosis.registry import examine
from pytest_llmperf.diagnosis.situation import Situation, WorkloadSize, look_at_hardware, model_size
from pytest_llmperf.models.file_types import quantized_beside
from pytest_llmperf.tune.levels import log_levels
from pytest_llmperf.tune.objective import Objective
from pytest_llmperf.tune.result import unbeaten
from pytest_llmperf.tune.space import Settings, Space, answer_settings, same_key

if TYPE_CHECKING:
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.tune.result import Phase, Point
    from pytest_llmperf.tune.space import Demand
    from pytest_llmperf.tune.study import StartedTrial, Study

#: Limits on the number of sampled points in a row without a gain that end a phase.
_PATIENCE_MIN, _PATIENCE_MAX = 2, 6
#: Between them, that number is the number of combinations divided by this.
_PATIENCE_PART = 16
#: Maximum number of combinations that are enumerated to find an untried one.
_ENUMERATED = 20_000
SAMPLER, ONE_AT_A_TIME, NEIGHBOUR, MODEL, TOGETHER = (
    "sampler",
    "one at a time",
    "neighbour",
    "model",
    "all causes together",
)


#: A change of one key: the key, its value before and after (as ``repr``).
Move = tuple[str, str, str]


@dataclass(frozen=True)
class Proposal:
    """Settings to try.

    Attributes:
        values: the values of all keys.
        origin: what proposes them: a cause's name, or one of the constants above.
    """

    values: Mapping[str, Any]
    origin: str


@dataclass(frozen=True)
class TriedSettings:
    """The settings that a study has tried so far, and their results.

    Attributes:
        space: the space that is searched.
        points: the finished points, in order.
        running: settings that other workers are measuring, as the values of all keys.
        objective: the goals whose limits the best point should keep.
    """

    space: Space
    points: Sequence[Point]
    running: Sequence[Settings] = ()
    objective: Objective = field(default_factory=Objective)

    @cached_property
    def _keys(self) -> set[str]:
        """Keys of the settings that were or are being tried; today's count as tried."""
        keys = {same_key(self.space.all_values({}))}
        keys |= {same_key(self.all_values(p)) for p in self.points if p.outcome != "out of time"}
        return keys | {same_key(settings) for settings in self.running}

    def all_values(self, point: Point) -> dict[str, Any]:
        """Return the values of all keys at a point."""
        return self.space.all_values(point.settings)

    @property
    def best(self) -> Point | None:
        """The best point; None while it is today's configuration.

        Several points are unbeaten if workers raced against the same point at the same time. A
        point that keeps every limit then beats one that does not; otherwise the score decides.
        """
        return min(
            unbeaten(self.points),
            key=lambda p: (self.objective.misses(log_levels(p.metrics)), p.score or 0.0),
            default=None,
        )

    @property
    def best_values(self) -> dict[str, Any]:
        """The values of all keys at the best point."""
        return self.all_values(self.best) if self.best is not None else self.space.all_values({})

    def rejected_before(self, changed: Settings) -> Point | None:
        """Return a point rejected for its answers whose answer settings are all in ``changed``."""
        given = answer_settings(changed).items()
        for point in self.points:
            if point.rejected_answers:
                cause = answer_settings(point.settings).items()
                if cause and cause <= given:
                    return point
        return None

    def is_new(self, values: Settings) -> bool:
        """Whether settings are untried, valid together, and not known to break the answer bound."""
        changed = self.space.changed(values)
        refused = self.space.why_not(changed) or self.rejected_before(changed)
        return not refused and same_key(values) not in self._keys

    def moves(self) -> dict[Move, Point]:
        """Return, for each change of a single key, the newest point that tried it."""
        by_number = {point.number: point for point in self.points}
        newest = {}
        for point in self.points:
            if point.outcome == "out of time":
                continue
            other = by_number.get(point.against)
            before = self.all_values(other) if other is not None else self.space.all_values({})
            after = self.all_values(point)
            keys = [key for key in after if before.get(key) != after[key]]
            if len(keys) == 1:
                newest[_move(keys[0], before, after[keys[0]])] = point
        return newest

    def points_since_gain(self, phase: Phase, origin: str) -> int:
        """Return how many points of this phase and origin were tried since the last new best."""
        count = 0
        for point in reversed(self.points):
            if point.took_over:
                break
            count += point.phase == phase and point.origin == origin
        return count


def _move(key: str, before: Settings, after: Any) -> Move:
    return key, repr(before.get(key)), repr(after)


def suggestions(
    config: Settings, info: EngineInfo, demand: Demand, values: Mapping[str, float], space: Space
) -> list[tuple[str, dict[str, Any]]]:
    """Return the changes that diagnosis suggests: cause and settings, costliest cause first.

    Args:
        config: the resolved ``llm`` section.
        info: what its engine loaded.
        demand: tokens that the workload needs.
        values: metrics measured with this configuration.
        space: the space that is searched; suggestions outside it move to the nearest value.
    """
    size = WorkloadSize(
        demand.prompt, demand.context - demand.prompt, demand.context, is_users=True
    )
    situation = Situation(
        config, look_at_hardware(), info, size, metrics=values, model_bytes=model_size(config)
    )
    suggested = []
    for finding in examine(situation):
        settings = {
            key: nearest
            for key, value in finding.evidence.remedy.settings.items()
            if (nearest := _nearest(space.choices.get(key, ()), value)) is not None
            and nearest != space.today[key]
        }
        if settings and not space.why_not(settings):
            suggested.append((finding.cause.name, settings))
    return suggested


def _nearest(choices: Sequence[Any], value: Any) -> Any:
    """Return the choice nearest to a value; None if no choice is comparable."""
    if value in choices:
        return value
    numbers = [n for n in choices if isinstance(n, int) and n > 0 and n is not True]
    if not numbers or not isinstance(value, int) or value <= 0 or isinstance(value, bool):
        return None
    return min(numbers, key=lambda number: abs(math.log(number / value)))


def unsampled_proposals(
    tried: TriedSettings, suggested: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[Proposal]:
    """Yield the untried, unsampled proposals of phase 1, most promising first."""
    space = tried.space
    together: dict[str, Any] = {}
    for _, settings in reversed(suggested):
        together.update(settings)
    if len(suggested) > 1:
        yield from _untried(tried, [space.all_values(together)], TOGETHER)
    best = tried.best_values
    for name, settings in suggested:
        yield from _untried(tried, [{**best, **settings}], name)
    moves = tried.moves()
    for key, value in _steps(space, best):
        if _move(key, best, value) not in moves:
            yield from _untried(tried, [{**best, key: value}], ONE_AT_A_TIME)


def _steps(space: Space, best: Settings) -> Iterator[tuple[str, Any]]:
    """Yield single changes: numbers to the adjacent choices, anything else to every value."""
    for key, values in space.choices.items():
        numeric = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
        if numeric and best[key] in values:
            index = values.index(best[key])
            others = [*values[index + 1 : index + 2], *values[max(index - 1, 0) : index]]
        else:
            others = [choice for choice in values if choice != best[key]]
        for value in others:
            yield key, value


def patience(space: Space) -> int:
    """Return how many sampled points in a row may fail to improve before a phase ends."""
    return min(max(space.size // _PATIENCE_PART, _PATIENCE_MIN), _PATIENCE_MAX)


def any_untried(tried: TriedSettings, seed: int) -> Proposal | None:
    """Return a random untried combination that is valid together; None if there is none."""
    space = tried.space
    keys = [*space.choices]
    rows = islice(product(*space.choices.values()), _ENUMERATED)
    combinations = [dict(zip(keys, row, strict=True)) for row in rows]
    random.Random(seed + len(tried.points)).shuffle(combinations)
    return next(_untried(tried, combinations, SAMPLER), None)


def neighbours(tried: TriedSettings) -> Iterator[Proposal]:
    """Yield untried neighbours of the best point, with one number half-way to the next choice.

    Choices that were measured and did not win are skipped: half-way to them is no better.
    """
    best, moves = tried.best_values, tried.moves()
    for key, other, middle in tried.space.half_way(best):
        known = moves.get(_move(key, best, other))
        if known is None or known.outcome != "measured" or known.took_over:
            yield from _untried(tried, [{**best, key: middle}], NEIGHBOUR)


def other_models(setup: EngineSetup) -> Sequence[str]:
    """Return the models to try, written like ``llm.model_path``.

    Without ``tune.models``, these are other quantizations of today's model in the same folder.
    """
    given, model = setup.loaded.config.tune.models, setup.model
    if given is not None or model is None:
        return given or ()
    written = str(setup.llm.resolved()["model_path"])
    if "://" in written or PurePath(written).name != model.first.name:
        return ()  # from a hub, or embedded: its folder is a cache
    siblings = quantized_beside(model.first).values()
    return [str(PurePath(written).with_name(file.name)) for file in siblings]


def models(tried: TriedSettings, names: Sequence[str]) -> Iterator[Proposal]:
    """Yield the best settings with each model that was not tried yet."""
    best = tried.best_values
    # A model is tried with one set of settings only.
    tried_models = {point.settings.get("model_path") for point in tried.points}
    yield from _untried(
        tried, ({**best, "model_path": name} for name in names if name not in tried_models), MODEL
    )


def _untried(
    tried: TriedSettings, candidates: Iterable[Mapping[str, Any]], origin: str
) -> Iterator[Proposal]:
    """Yield the untried candidates, each repaired so that its settings are valid together."""
    for candidate in candidates:
        values = tried.space.repaired(candidate)
        if tried.is_new(values):
            yield Proposal(values, origin)


class Queue:
    """Starts the next trial of a study, chosen from the results so far.

    Args:
        study: the study of the search.
        space: the space that is searched.
        objective: the goals that decide which point is best.
        suggested: changes that diagnosis suggests: cause and settings.
        models: other models to try.
    """

    def __init__(
        self,
        study: Study,
        space: Space,
        objective: Objective,
        suggested: Sequence[tuple[str, Mapping[str, Any]]] = (),
        models: Sequence[str] = (),
    ) -> None:
        self._study = study
        self._space = space
        self._objective = objective
        self._suggested = suggested
        self._models = models

    def start(self, phase: Phase) -> StartedTrial | None:
        """Start the next trial of a phase; None when the phase has nothing promising left."""
        study, space = self._study, self._space
        if (left := study.ask_left_behind(phase)) is not None:
            return left
        tried = TriedSettings(space, study.points(), study.running(), self._objective)
        if phase == 2:
            proposals = models(tried, self._models)
        elif phase == 3:
            proposals = neighbours(tried)
        else:
            proposals = unsampled_proposals(tried, self._suggested)
        proposal = next(proposals, None)
        if proposal is not None:
            return study.ask(proposal, phase)
        if phase != 1 or tried.points_since_gain(1, SAMPLER) >= patience(space):
            return None
        fallback = any_untried(tried, study.seed)
        if fallback is None:
            return None
        return study.sample(phase, tried.is_new) or study.ask(fallback, phase)
