"""The order of a search: which point is measured next in a phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_llmperf.tune import propose
from pytest_llmperf.tune.propose import Tried

if TYPE_CHECKING:
    from pytest_llmperf.tune.result import Phase
    from pytest_llmperf.tune.space import Space
    from pytest_llmperf.tune.study import StartedTrial, Study


class Queue:
    """Starts the next trial of a study, from what its points show.

    Args:
        study: of the search.
        space: of the search.
        suggested: what diagnosis would change: cause and settings.
        models: other models to try.
    """

    def __init__(
        self,
        study: Study,
        space: Space,
        suggested: Sequence[tuple[str, Mapping[str, Any]]] = (),
        models: Sequence[str] = (),
    ) -> None:
        self._study = study
        self._space = space
        self._suggested = suggested
        self._models = models

    def start(self, phase: Phase) -> StartedTrial | None:
        """Start the next trial of a phase; None when nothing promising is left of it."""
        study, space = self._study, self._space
        if (left := study.ask_left_behind(phase)) is not None:
            return left
        tried = Tried(space, study.points(), study.running())
        if phase == 2:
            proposals = propose.models(tried, self._models)
        elif phase == 3:
            proposals = propose.neighbours(tried)
        else:
            proposals = propose.informed(tried, self._suggested)
        proposal = next(proposals, None)
        if proposal is not None:
            return study.ask(proposal, phase)
        if phase != 1 or tried.in_vain(1, propose.SAMPLER) >= propose.patience(space):
            return None
        fallback = propose.any_untried(tried, study.seed)
        if fallback is None:
            return None
        return study.sample(phase, tried.is_new) or study.ask(fallback, phase)
