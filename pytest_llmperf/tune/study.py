"""Study of a search in Optuna's own storage; every finished point is stored immediately.

A trial holds its settings and the finished point in its user attributes. A trial left behind by a
killed worker is closed and proposed again by the next worker, which recognises by the process
whether a worker is still running.
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

#: Seconds after which a trial counts as left behind: without a known worker, and with a worker on
#: another machine, whose process can't be checked.
_STALE, _STALE_ELSEWHERE = 60.0, 24 * 3600.0
#: How many times the sampler is asked for settings that were not tried yet.
_REPEATS = 5
_PROPOSED, _ORIGIN, _PHASE, _WORKER, _POINT = "proposed", "origin", "phase", "worker", "point"


@dataclass(frozen=True)
class StartedTrial:
    """A trial that this worker has started and is to measure.

    Attributes:
        trial: the Optuna trial.
        values: the values of all keys.
        origin: what proposed the settings.
        phase: phase of the search.
    """

    trial: Trial
    values: Mapping[str, Any]
    origin: str
    phase: Phase

    @property
    def number(self) -> int:
        """Number of the trial in the study, from 1; 0 is today's configuration."""
        return int(self.trial.number) + 1


def identity_name(identity: Mapping[str, Any]) -> str:
    """Return the default study name for a search with this identity."""
    text = json.dumps(identity, sort_keys=True)
    return f"tune-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Study:
    """One study, shared by all workers that open it.

    Args:
        study: the Optuna study.
        space: the space that is searched.
        storage: URL of its storage, without the password.
        seed: random seed of the proposals.
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
            name: name of the study.
            storage: URL of a database; None keeps the study in a file.
            folder: folder of such files.
            identity: facts that must be equal for stored points to be reused, as plain JSON.
            space: the space that is searched.
            seed: random seed of the proposals, if the study is new.

        Raises:
            StudyError: the storage can't be used, or the study belongs to another search.
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
                f"the study {name} belongs to a different search "
                f"({_differences(known, identity)}); choose another name with --study, or omit "
                "--study"
            )
        seed = int(study.user_attrs.get("seed", seed))
        # The number of trials in the seed makes workers that join later sample other points.
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
        return [point for trial in self._trials() if (point := _point_of(trial)) is not None]

    def running(self) -> list[dict[str, Any]]:
        """Return the settings that workers are measuring now."""
        from optuna.trial import TrialState

        states = (TrialState.RUNNING, TrialState.WAITING)
        return [
            t.user_attrs[_PROPOSED]
            for t in self._trials()
            if t.state in states and _PROPOSED in t.user_attrs and _POINT not in t.user_attrs
        ]

    def recover(self) -> int:
        """Close the trials of workers that are gone; return how many were proposed again."""
        from optuna.trial import TrialState

        count = 0
        for trial in self._trials():
            if trial.state is not TrialState.RUNNING or _is_at_work(trial):
                continue
            if (point := _point_of(trial)) is not None:
                self._tell(trial.number, point)
                continue
            with contextlib.suppress(ValueError, RuntimeError):  # another worker was faster
                self._study.tell(trial.number, state=TrialState.FAIL)
                if _PROPOSED in trial.user_attrs:
                    kept = (_PROPOSED, _ORIGIN, _PHASE)
                    attributes = {k: trial.user_attrs[k] for k in kept if k in trial.user_attrs}
                    self._enqueue(dict(trial.params), attributes)
                    count += 1
        return count

    def ask(self, proposal: Proposal, phase: Phase) -> StartedTrial:
        """Start a trial for a proposal, or a waiting trial that another worker left behind."""
        attributes = {_PROPOSED: dict(proposal.values), _ORIGIN: proposal.origin, _PHASE: phase}
        self._enqueue(self._encoded(proposal.values), attributes)
        return self._started(phase)

    def ask_left_behind(self, phase: Phase) -> StartedTrial | None:
        """Start a trial that is waiting in the study; None if there is none."""
        from optuna.trial import TrialState

        waiting = any(trial.state is TrialState.WAITING for trial in self._trials())
        return self._started(phase) if waiting else None

    def sample(
        self, phase: Phase, is_new: Callable[[Mapping[str, Any]], bool]
    ) -> StartedTrial | None:
        """Start a trial that the sampler proposes; None if it only repeats earlier settings.

        ``is_new`` tells whether settings, as the values of all keys, are worth trying.
        """
        from optuna.trial import TrialState

        for _ in range(_REPEATS):
            started = self._started(phase)
            # A trial that another worker has just proposed must not be dropped.
            if started.origin != SAMPLER or is_new(started.values):
                return started
            self._study.tell(started.trial, state=TrialState.FAIL)
        return None

    def finish(self, asked: StartedTrial, point: Point) -> None:
        """Store a finished point."""
        asked.trial.set_user_attr(_POINT, dump(point))
        self._tell(asked.trial.number, point)

    def _started(self, phase: Phase) -> StartedTrial:
        with quiet():
            trial = self._study.ask()
            trial.set_user_attr(_WORKER, _this_worker())
            attrs = trial.user_attrs
            values = attrs.get(_PROPOSED)
            # Settings between the choices can't be encoded as parameters for the sampler.
            if values is None or self._encoded(values):
                params = self._suggested(trial)
            if values is None:
                values = self._space.repaired(self._decoded(params))
                trial.set_user_attr(_PROPOSED, values)
        return StartedTrial(trial, values, attrs.get(_ORIGIN, SAMPLER), attrs.get(_PHASE, phase))

    def _suggested(self, trial: Trial) -> dict[str, Any]:
        """Return a trial's parameters: the enqueued ones, otherwise those the sampler chooses."""
        return {
            key: trial.suggest_int(key, 0, len(values) - 1)
            if _is_ordered(values)
            else trial.suggest_categorical(key, [json.dumps(value) for value in values])
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

    def _encoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values as parameters; {} if a value is not among the choices."""
        params: dict[str, Any] = {}
        for key, choices in self._space.choices.items():
            if "model_path" in values or values[key] not in choices:
                return {}
            index = choices.index(values[key])
            params[key] = index if _is_ordered(choices) else json.dumps(choices[index])
        return params

    def _decoded(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: values[params[key]] if _is_ordered(values) else json.loads(params[key])
            for key, values in self._space.choices.items()
        }


def _is_ordered(values: Sequence[Any]) -> bool:
    return len(values) > 2 and all(
        isinstance(value, int) and not isinstance(value, bool) for value in values
    )


def _point_of(trial: FrozenTrial) -> Point | None:
    stored = trial.user_attrs.get(_POINT)
    if stored is None:
        return None
    try:
        return replace(read(Point, stored), number=trial.number + 1)
    except ShapeError:
        return None  # stored by another version


def _this_worker() -> dict[str, Any]:
    import psutil

    pid = os.getpid()
    started = psutil.Process(pid).create_time()
    return {"host": platform.node(), "pid": pid, "started": started, "since": time.time()}


def _is_at_work(trial: FrozenTrial) -> bool:
    """Whether the worker of a running trial is still alive, as far as this machine can tell."""
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
    keys = [key for key in now if known.get(key) != json.loads(json.dumps(now[key]))]
    return "different " + ", ".join(keys or ["identity"])
