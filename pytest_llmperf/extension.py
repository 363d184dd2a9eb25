"""The API for packages that add an engine or a metric (docs/extending.md).

These names are stable, while the modules that define them may move. They use only the standard
library, so that an engine's process can import them in any environment.
"""

from __future__ import annotations

from pytest_llmperf.engine.base import Engine, Pause, TokenSink
from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.generation import FinishReason, Generation
from pytest_llmperf.engine.planted import Delay
from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine.scoring import Scoring
from pytest_llmperf.engine.token_scores import TokenScores
from pytest_llmperf.engine_kinds import EngineKind
from pytest_llmperf.metrics import Direction, Metric, MetricError, Unit, register_metric
from pytest_llmperf.timeline import Timeline

__all__ = [
    "Delay",
    "Direction",
    "Engine",
    "EngineError",
    "EngineKind",
    "EngineLoadError",
    "FinishReason",
    "Generation",
    "Metric",
    "MetricError",
    "Pause",
    "Request",
    "Scoring",
    "Timeline",
    "TokenScores",
    "TokenSink",
    "Unit",
    "register_metric",
]
