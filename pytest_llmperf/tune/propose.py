"""Proposals of a search, and their order: diagnosis, one key at a time, the sampler, neighbours.

Everything is decided by the points of the study, so that a search goes on where it was stopped,
and several workers do not repeat each other.
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
from pytest_llmperf.diagnosis.situation import Situation, Use, look_at_hardware, model_size
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

#: Sampled points in a row that bring nothing, after which a phase ends.
_PATIENCE_MIN, _PATIENCE_MAX = 2, 6
#: And at most this part of all combinations.
_PATIENCE_PART = 16
#: Combinations that are enumerated to find one that was not tried.
_ENUMERATED = 20_000
SAMPLER, ONE_AT_A_TIME, NEIGHBOUR, MODEL, TOGETHER = (
    "sampler",
    "one at a time",
    "neighbour",
    "model",
    "all causes together",
)


#: A change of one key: its name, the value before, the value after.
Move = tuple[str, str, str]


@dataclass(frozen=True)
class Proposal:
    """Settings to try.

    Attributes:
        whole: the values of all keys.
        origin: who proposes them.
    """

    whole: Mapping[str, Any]
    origin: str


@dataclass(frozen=True)
class Tried:
    """The points of a study, by what they tried.

    Attributes:
        space: of the search.
        points: finished ones, in order.
        running: settings that other workers are measuring, whole.
        objective: whose limits the best point is to keep.
    """

    space: Space
    points: Sequence[Point]
    running: Sequence[Settings] = ()
    objective: Objective = field(default_factory=Objective)

    @cached_property
    def _keys(self) -> set[str]:
        """The settings that were tried or are being tried; today's always were."""
        found = {same_key(self.space.whole({}))}
        found |= {same_key(self.whole(one)) for one in self.points if one.outcome != "out of time"}
        return found | {same_key(one) for one in self.running}

    def whole(self, point: Point) -> dict[str, Any]:
        """Return the values of all keys at a point."""
        return self.space.whole(point.settings)

    @property
    def best(self) -> Point | None:
        """The best point; None while it is today's configuration.

        Several were not beaten where workers raced at the same time against the same point. Of
        them, one that keeps every limit is better than one that does not; then the score decides.
        """
        return min(
            unbeaten(self.points),
            key=lambda one: (self.objective.misses(log_levels(one.metrics)), one.score or 0.0),
            default=None,
        )

    @property
    def best_whole(self) -> dict[str, Any]:
        """The values of all keys at the best point."""
        return self.whole(self.best) if self.best is not None else self.space.whole({})

    def over_bound(self, changed: Settings) -> Point | None:
        """Return a point whose answers were over the bound by settings that are among these."""
        given = answer_settings(changed).items()
        for one in self.points:
            if one.rejected_answers:
                cause = answer_settings(one.settings).items()
                if cause and cause <= given:
                    return one
        return None

    def is_new(self, whole: Settings) -> bool:
        """Whether settings were not tried, go together, and may keep the bound on answers."""
        changed = self.space.changed(whole)
        refused = self.space.why_not(changed) or self.over_bound(changed)
        return not refused and same_key(whole) not in self._keys

    def moves(self) -> dict[Move, Point]:
        """Return the newest point that tried each single change."""
        numbers = {one.number: one for one in self.points}
        found = {}
        for one in self.points:
            if one.outcome == "out of time":
                continue
            other = numbers.get(one.against)
            before = self.whole(other) if other is not None else self.space.whole({})
            after = self.whole(one)
            keys = [key for key in after if before.get(key) != after[key]]
            if len(keys) == 1:
                found[_move(keys[0], before, after[keys[0]])] = one
        return found

    def in_vain(self, phase: Phase, origin: str) -> int:
        """Return how many of the newest points of this kind brought nothing."""
        count = 0
        for one in reversed(self.points):
            if one.took_over:
                break
            count += one.phase == phase and one.origin == origin
        return count


def _move(key: str, before: Settings, after: Any) -> Move:
    return key, repr(before.get(key)), repr(after)


def suggestions(
    config: Settings, info: EngineInfo, demand: Demand, values: Mapping[str, float], space: Space
) -> list[tuple[str, dict[str, Any]]]:
    """Return what diagnosis would change of a configuration: cause and settings, costliest first.

    Args:
        config: the resolved ``llm`` section.
        info: what its engine loaded.
        demand: of the workload.
        values: its measured metrics.
        space: the search's; a suggestion outside of it is moved to the nearest value.
    """
    use = Use(demand.prompt, demand.context - demand.prompt, demand.context, own=True)
    situation = Situation(
        config, look_at_hardware(), info, use, metrics=values, model_bytes=model_size(config)
    )
    found = []
    for one in examine(situation):
        settings = {
            key: nearest
            for key, value in one.evidence.remedy.settings.items()
            if (nearest := _nearest(space.choices.get(key, ()), value)) is not None
            and nearest != space.today[key]
        }
        if settings and not space.why_not(settings):
            found.append((one.cause.name, settings))
    return found


def _nearest(choices: Sequence[Any], value: Any) -> Any:
    """Return the choice that is nearest to a value; None if none is like it."""
    if value in choices:
        return value
    numbers = [one for one in choices if isinstance(one, int) and one > 0 and one is not True]
    if not numbers or not isinstance(value, int) or value <= 0 or isinstance(value, bool):
        return None
    return min(numbers, key=lambda one: abs(math.log(one / value)))


def informed(
    tried: Tried, suggested: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[Proposal]:
    """Yield untried proposals of phase 1 that are not sampled, the most promising first."""
    space = tried.space
    together: dict[str, Any] = {}
    for _, settings in reversed(suggested):
        together.update(settings)
    if len(suggested) > 1:
        yield from _untried(tried, [space.whole(together)], TOGETHER)
    best = tried.best_whole
    for name, settings in suggested:
        yield from _untried(tried, [{**best, **settings}], name)
    moves = tried.moves()
    for key, value in _steps(space, best):
        if _move(key, best, value) not in moves:
            yield from _untried(tried, [{**best, key: value}], ONE_AT_A_TIME)


def _steps(space: Space, best: Settings) -> Iterator[tuple[str, Any]]:
    """Yield single changes: of numbers to the next ones, of everything else to any value."""
    for key, values in space.choices.items():
        numeric = all(isinstance(one, int) and not isinstance(one, bool) for one in values)
        if numeric and best[key] in values:
            place = values.index(best[key])
            others = [*values[place + 1 : place + 2], *values[max(place - 1, 0) : place]]
        else:
            others = [one for one in values if one != best[key]]
        for value in others:
            yield key, value


def patience(space: Space) -> int:
    """Return how many sampled points in a row may bring nothing."""
    return min(max(space.size // _PATIENCE_PART, _PATIENCE_MIN), _PATIENCE_MAX)


def any_untried(tried: Tried, seed: int) -> Proposal | None:
    """Return a random combination that was not tried and goes together; None if there is none."""
    space = tried.space
    keys = [*space.choices]
    rows = islice(product(*space.choices.values()), _ENUMERATED)
    every = [dict(zip(keys, row, strict=True)) for row in rows]
    random.Random(seed + len(tried.points)).shuffle(every)
    return next(_untried(tried, every, SAMPLER), None)


def neighbours(tried: Tried) -> Iterator[Proposal]:
    """Yield untried neighbours of the best point: with one number half-way to the next value.

    Half-way to a value that made no difference, none is to be expected either.
    """
    best, moves = tried.best_whole, tried.moves()
    for key, other, middle in tried.space.half_way(best):
        known = moves.get(_move(key, best, other))
        if known is None or known.outcome != "measured" or known.took_over:
            yield from _untried(tried, [{**best, key: middle}], NEIGHBOUR)


def other_models(setup: EngineSetup) -> Sequence[str]:
    """Return the models to try, as ``llm.model_path`` has them.

    Without ``tune.models`` they are today's other quantizations in the same folder.
    """
    given, model = setup.loaded.config.tune.models, setup.model
    if given is not None or model is None:
        return given or ()
    written = str(setup.llm.resolved()["model_path"])
    if "://" in written or PurePath(written).name != model.first.name:
        return ()  # of a hub, or embedded: in a cache folder
    beside = quantized_beside(model.first).values()
    return [str(PurePath(written).with_name(one.name)) for one in beside]


def models(tried: Tried, names: Sequence[str]) -> Iterator[Proposal]:
    """Yield the best settings with each other model."""
    best = tried.best_whole
    # A model that was tried is not tried again with every other setting.
    known = {one.settings.get("model_path") for one in tried.points}
    yield from _untried(
        tried, ({**best, "model_path": one} for one in names if one not in known), MODEL
    )


def _untried(
    tried: Tried, candidates: Iterable[Mapping[str, Any]], origin: str
) -> Iterator[Proposal]:
    """Yield those that were not tried and go together, with what must follow a change."""
    for one in candidates:
        whole = tried.space.repaired(one)
        if tried.is_new(whole):
            yield Proposal(whole, origin)


class Queue:
    """Starts the next trial of a study, from what its points show.

    Args:
        study: of the search.
        space: of the search.
        objective: what decides.
        suggested: what diagnosis would change: cause and settings.
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
        """Start the next trial of a phase; None when nothing promising is left of it."""
        study, space = self._study, self._space
        if (left := study.ask_left_behind(phase)) is not None:
            return left
        tried = Tried(space, study.points(), study.running(), self._objective)
        if phase == 2:
            proposals = models(tried, self._models)
        elif phase == 3:
            proposals = neighbours(tried)
        else:
            proposals = informed(tried, self._suggested)
        proposal = next(proposals, None)
        if proposal is not None:
            return study.ask(proposal, phase)
        if phase != 1 or tried.in_vain(1, SAMPLER) >= patience(space):
            return None
        fallback = any_untried(tried, study.seed)
        if fallback is None:
            return None
        return study.sample(phase, tried.is_new) or study.ask(fallback, phase)
