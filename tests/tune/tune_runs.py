"""The type of the ``tune`` fixture, and a study for its search to continue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna

from pytest_llmperf.tune.result import TuneResult
from pytest_llmperf.tune.storage import file_url, open_storage

Tune = Callable[..., TuneResult]


def propose_first(folder: Path, study: str, whole: dict[str, object]) -> None:
    """Create a study with settings left to measure, as a killed worker would leave it."""
    storage = open_storage(file_url(folder / "cache" / "tune", study))
    new_study = optuna.create_study(storage=storage, study_name=study, direction="minimize")
    new_study.enqueue_trial({}, user_attrs={"proposed": whole, "origin": "sampler", "phase": 1})
