"""The study of a search in Optuna's own storage: every finished point is kept at once.

A trial holds its settings and the finished point in its user attributes. A trial that a worker left
behind (it was killed) is closed and proposed again by the next one; a worker that still runs is
recognised by its process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.stored_json import ShapeError, dump, read
from pytest_llmperf.tune.propose import SAMPLER
from pytest_llmperf.tune.result import Point
from pytest_llmperf.tune.space import Space
from pytest_llmperf.tune.storage import StudyError, file_url, open_storage, quiet, without_password

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

    from pytest_llmperf.tune.propose import Proposal
    from pytest_llmperf.tune.result import Phase

#: Seconds after which a trial without a known worker counts as left behind; and one of a worker on
#: another machine, which can't be looked at.
_STALE, _STALE_ELSEWHERE = 60.0, 24 * 3600.0
#: Proposals of the sampler that may repeat what was tried.
_REPEATS = 5
_PROPOSED, _ORIGIN, _PHASE, _WORKER, _POINT = "proposed", "origin", "phase", "worker", "point"


@dataclass(frozen=True)
class StartedTrial:
    """A trial that this worker is to measure.

    Attributes:
        trial: Optuna's.
        whole: the values of all keys.
        origin: who proposed them.
        phase: of the search.
    """

    trial: Trial
    whole: Mapping[str, Any]
    origin: str
    phase: Phase

    @property
    def number(self) -> int:
        """Its number in the study, from 1; 0 is today's configuration."""
        return int(self.trial.number) + 1


def identity_name(identity: Mapping[str, Any]) -> str:
    """Return the default name of the study of such a search."""
    text = json.dumps(identity, sort_keys=True)
    return f"tune-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Study:
    """One study, shared by all workers that open it.

    Args:
        study: Optuna's.
        space: of the search.
        storage: its URL.
        seed: of the proposals.
    """

    def __init__(self, study: optuna.Study, space: Space, storage: str, seed: int) -> None:
        self._study = study
        self._space = space
        self.storage = storage
        self.seed = seed

    @classmethod
    def open(
        cls,
        name: str,
        storage: str | None,
        folder: Path,
        identity: Mapping[str, Any],
        space: Space,
        seed: int,
    ) -> Study:
        """Open a study, or create it.

        Args:
            name: of the study.
            storage: URL of a database; None keeps it in a file.
            folder: of the files.
            identity: what must be equal for its points to count, plain JSON.
            space: of the search.
            seed: of the proposals.

        Raises:
            StudyError: the storage can't be used, or the study is of another search.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        url = storage or file_url(folder, name)
        try:
            backend = open_storage(url)
            # Another worker may be creating the same tables or study.
            study = optuna.create_study(
                storage=backend, study_name=name, load_if_exists=True, direction="minimize"
            )
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StudyError(
                f"the study {name} can't be opened in {without_password(url)}: {reason}; name "
                "another place with --storage"
            ) from error
        known = study.user_attrs.get("identity")
        if known is None:
            study.set_user_attr("identity", dict(identity))
            study.set_user_attr("seed", seed)
        elif known != json.loads(json.dumps(identity)):
            raise StudyError(
                f"the study {name} is of another search ({_differences(known, identity)}); name "
                "another one with --study, or leave --study out"
            )
        seed = int(study.user_attrs.get("seed", seed))
        # Workers that open it later sample other points.
        study.sampler = optuna.samplers.TPESampler(
            seed=seed + len(study.get_trials(deepcopy=False)), n_startup_trials=4
        )
        return cls(study, space, without_password(url), seed)

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self._study.study_name)

    def points(self) -> list[Point]:
        """Return all finished points, in order."""
        return [point for one in self._trials() if (point := _point_of(one)) is not None]

    def running(self) -> list[dict[str, Any]]:
        """Return the settings that workers are measuring now."""
        from optuna.trial import TrialState

        states = (TrialState.RUNNING, TrialState.WAITING)
        return [
            one.user_attrs[_PROPOSED]
            for one in self._trials()
            if one.state in states and _PROPOSED in one.user_attrs and _POINT not in one.user_attrs
        ]

    def recover(self) -> int:
        """Close the trials of workers that are gone, and propose them again; return how many."""
        from optuna.trial import TrialState

        count = 0
        for one in self._trials():
            if one.state is not TrialState.RUNNING or _is_at_work(one):
                continue
            if (point := _point_of(one)) is not None:
                self._tell(one.number, point)
                continue
            with contextlib.suppress(ValueError, RuntimeError):  # another worker was faster
                self._study.tell(one.number, state=TrialState.FAIL)
                if _PROPOSED in one.user_attrs:
                    kept = (_PROPOSED, _ORIGIN, _PHASE)
                    attributes = {key: one.user_attrs[key] for key in kept if key in one.user_attrs}
                    self._enqueue(dict(one.params), attributes)
                    count += 1
        return count

    def ask(self, proposal: Proposal, phase: Phase) -> StartedTrial:
        """Start the trial of a proposal, or one that another worker has left behind."""
        attributes = {_PROPOSED: dict(proposal.whole), _ORIGIN: proposal.origin, _PHASE: phase}
        self._enqueue(self._encoded(proposal.whole), attributes)
        return self._started(phase)

    def ask_left_behind(self, phase: Phase) -> StartedTrial | None:
        """Start a trial that waits in the study; None if none does."""
        from optuna.trial import TrialState

        waiting = any(one.state is TrialState.WAITING for one in self._trials())
        return self._started(phase) if waiting else None

    def sample(
        self, phase: Phase, is_new: Callable[[Mapping[str, Any]], bool]
    ) -> StartedTrial | None:
        """Start a trial that the sampler proposes; None if it repeats what was tried.

        ``is_new``: whether whole settings are worth trying.
        """
        from optuna.trial import TrialState

        for _ in range(_REPEATS):
            asked = self._started(phase)
            # What another worker proposes at this moment is not to be lost.
            if asked.origin != SAMPLER or is_new(asked.whole):
                return asked
            self._study.tell(asked.trial, state=TrialState.FAIL)
        return None

    def finish(self, asked: StartedTrial, point: Point) -> None:
        """Keep a finished point."""
        asked.trial.set_user_attr(_POINT, dump(point))
        self._tell(asked.trial.number, point)

    def _started(self, phase: Phase) -> StartedTrial:
        with quiet():
            trial = self._study.ask()
            trial.set_user_attr(_WORKER, _this_worker())
            known = trial.user_attrs
            whole = known.get(_PROPOSED)
            # Settings between the choices have no parameters that the sampler could learn from.
            if whole is None or self._encoded(whole):
                params = self._suggested(trial)
            if whole is None:
                whole = self._space.repaired(self._decoded(params))
                trial.set_user_attr(_PROPOSED, whole)
        return StartedTrial(trial, whole, known.get(_ORIGIN, SAMPLER), known.get(_PHASE, phase))

    def _suggested(self, trial: Trial) -> dict[str, Any]:
        """Return a trial's parameters: those it was proposed with, else the sampler's."""
        return {
            key: trial.suggest_int(key, 0, len(values) - 1)
            if _is_ordered(values)
            else trial.suggest_categorical(key, [json.dumps(one) for one in values])
            for key, values in self._space.choices.items()
        }

    def _enqueue(self, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        with quiet():
            self._study.enqueue_trial(dict(params), user_attrs=dict(attributes))

    def _tell(self, number: int, point: Point) -> None:
        from optuna.trial import TrialState

        with contextlib.suppress(ValueError, RuntimeError), quiet():
            if point.score is None:
                self._study.tell(number, state=TrialState.FAIL)
            else:
                self._study.tell(number, point.score)

    def _trials(self) -> Sequence[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _encoded(self, whole: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values as parameters; {} if one is none of the choices."""
        found: dict[str, Any] = {}
        for key, values in self._space.choices.items():
            if "model_path" in whole or whole[key] not in values:
                return {}
            place = values.index(whole[key])
            found[key] = place if _is_ordered(values) else json.dumps(values[place])
        return found

    def _decoded(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: values[params[key]] if _is_ordered(values) else json.loads(params[key])
            for key, values in self._space.choices.items()
        }


def _is_ordered(values: Sequence[Any]) -> bool:
    return len(values) > 2 and all(
        isinstance(one, int) and not isinstance(one, bool) for one in values
    )


def _point_of(trial: FrozenTrial) -> Point | None:
    stored = trial.user_attrs.get(_POINT)
    if stored is None:
        return None
    try:
        return replace(read(Point, stored), number=trial.number + 1)
    except ShapeError:
        return None  # of another version


def _this_worker() -> dict[str, Any]:
    import psutil

    pid = os.getpid()
    started = psutil.Process(pid).create_time()
    return {"host": platform.node(), "pid": pid, "started": started, "since": time.time()}


def _is_at_work(trial: FrozenTrial) -> bool:
    """Whether the worker of a running trial still lives, as far as it can be known here."""
    import psutil

    worker = trial.user_attrs.get(_WORKER)
    if not isinstance(worker, dict):
        began = trial.datetime_start or datetime.now()
        return (datetime.now() - began).total_seconds() < _STALE
    if worker["host"] != platform.node():
        return time.time() - float(worker["since"]) < _STALE_ELSEWHERE
    if worker["pid"] == os.getpid():
        return False  # left behind by an earlier search of this process
    try:
        process = psutil.Process(worker["pid"])
        return bool(abs(process.create_time() - worker["started"]) < 1.0)
    except psutil.Error:
        return False


def _differences(known: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    found = [key for key in now if known.get(key) != json.loads(json.dumps(now[key]))]
    return "another " + ", ".join(found or ["identity"])
