"""The type of the fixture that runs a search."""

from __future__ import annotations

from collections.abc import Callable

from pytest_llmperf.tune.result import TuneResult

Tune = Callable[..., TuneResult]
