"""The result of a search for better settings, as JSON of schema ``llmperf-tune/1``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_llmperf.config.extra_hashes import without_extra_values
from pytest_llmperf.report.tune_words import without_password

if TYPE_CHECKING:
    from pytest_llmperf.tune.result import Configuration, TuneResult

SCHEMA = "llmperf-tune/1"


def as_json(result: TuneResult, *, date: str, command: str = "") -> dict[str, Any]:
    """Return the result as plain JSON; docs/tune-results.md describes every key.

        {schema, date, command, conclusion, improved, interrupted, machine, model, engine,
         workload [text], objective [metric], seconds, budget, study, storage, seed,
         phases [number], targets [target], before configuration, winner configuration,
         confirmed confirmation, points [point], pareto [number], pareto_metrics [metric],
         notes [text]}

    Values are in base units, changes are fractions (positive is worse), unknowns are null.
    In ``settings``, the values of ``extra`` are hashed: today's arguments may be private.
    """
    confirmed = result.confirmed
    data = {
        "schema": SCHEMA,
        "date": date,
        "command": command or None,
        "conclusion": result.conclusion,
        "improved": confirmed.improved if confirmed is not None else False,
        "interrupted": result.interrupted,
        "machine": result.machine,
        "model": result.model,
        "engine": result.engine,
        "workload": result.workload,
        "objective": result.objective,
        "seconds": result.seconds,
        "budget": result.budget,
        "study": result.study,
        "storage": without_password(result.storage),
        "seed": result.seed,
        "phases": result.phases,
        "targets": [asdict(target) for target in result.targets],
        "before": _configuration(result.before),
        "winner": _configuration(result.winner) if result.winner is not None else None,
        "confirmed": asdict(confirmed) if confirmed is not None else None,
        "points": [asdict(point) for point in result.points],
        "pareto": result.pareto,
        "pareto_metrics": result.pareto_metrics,
        "notes": result.notes,
    }
    plain = _plain(data)
    assert isinstance(plain, dict)
    return plain


def _configuration(configuration: Configuration) -> dict[str, Any]:
    return {
        "point": configuration.point,
        "changed": configuration.changed,
        "settings": without_extra_values(configuration.settings),
        "levels": [asdict(level) for level in configuration.levels],
    }


def _plain(value: Any) -> Any:
    """Return JSON types: lists for tuples, null for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
