"""The protocol every engine follows inside its worker process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.request import Request

#: Called with (token id or None, text of that token, arrival time) as each token arrives.
TokenSink = Callable[[int | None, str, float], None]

#: Called while the device is idle: after a batch of the prompt (with 0), and after an output token
#: (with their number so far). It may wait; that time does not count as the engine's.
Pause = Callable[[int], None]


class Engine(Protocol):
    """An inference engine: turns requests into generations, one at a time.

    An engine is built from its configuration (a plain mapping, see the ``llm``
    section of ``config.yaml``) and loads everything it needs while being built.
    """

    def info(self) -> dict[str, Any]:
        """Return facts about the loaded engine, as plain JSON types (the fields of EngineInfo)."""

    def generate(self, request: Request, sink: TokenSink | None) -> Generation:
        """Run one request; send tokens to ``sink`` as they arrive if there is one.

        Raises:
            EngineError: the request can't be met; the engine stays usable.
        """

    def reset(self) -> None:
        """Forget every earlier request (empty the KV cache)."""

    def close(self) -> None:
        """Release the device."""
