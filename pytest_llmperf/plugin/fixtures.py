"""The ``llm_engine`` fixture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.plugin.settings import settings_of

if TYPE_CHECKING:
    from pytest_llmperf.engine.handle import LlmEngine


@pytest.fixture(name="_llmperf_cell")
def _sweep_parameter(request: pytest.FixtureRequest) -> object:
    """The cell of a sweep: the parameter by which ``perf_sweep`` makes several tests of one."""
    return request.param


@pytest.fixture(scope="session")
def llm_engine(pytestconfig: pytest.Config) -> Iterator[LlmEngine]:
    """The model of ``config.yaml``, loaded in a separate worker process.

    ``generate(prompt)``, ``chat(messages)`` and ``stream(prompt)`` return or end
    in a Generation; ``info`` and ``verify_gpu_utilization()`` describe the loaded model.
    """
    from pytest_llmperf.engine.errors import EngineError

    problem: str | None = None
    try:
        engine = settings_of(pytestconfig).engine
        engine.start()
    except (pytest.UsageError, EngineError) as error:
        problem = str(error)
    if problem is not None:
        # Outside the handler, or pytest shows the same message twice.
        pytest.fail(problem, pytrace=False)
    yield engine
    engine.close()
