"""The type of the fixture that runs a search, and a study that such a search goes on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna

from pytest_llmperf.tune.result import TuneResult
from pytest_llmperf.tune.storage import file_url, open_storage

Tune = Callable[..., TuneResult]


def propose_first(folder: Path, study: str, whole: dict[str, object]) -> None:
    """Leave settings in a new study, as a worker that was killed would."""
    storage = open_storage(file_url(folder / "cache" / "tune", study))
    made = optuna.create_study(storage=storage, study_name=study, direction="minimize")
    made.enqueue_trial({}, user_attrs={"proposed": whole, "origin": "sampler", "phase": 1})
