"""pytest_llmperf: a pytest plugin that measures LLM inference speed and gates CI.

``configuration``, ``measure_workload``, ``compare_configurations``, ``read_sessions`` and ``table``
are its API for use without pytest (``api.py``).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llmperf.api import (
        BaselineError,
        ConfigError,
        Console,
        EngineError,
        EngineSetup,
        Interrupted,
        SessionResult,
        compare_configurations,
        configuration,
        measure_workload,
        read_sessions,
        table,
    )

__all__ = [
    "BaselineError",
    "ConfigError",
    "Console",
    "EngineError",
    "EngineSetup",
    "Interrupted",
    "SessionResult",
    "compare_configurations",
    "configuration",
    "measure_workload",
    "read_sessions",
    "table",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the API on first use, because pytest imports this package at every start."""
    if name in __all__:
        from pytest_llmperf import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
