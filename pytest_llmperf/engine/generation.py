"""The result of one request: token ids, text, timeline, and the metrics derived from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.instruments import Instrument
from pytest_llmperf.metrics import compute_all
from pytest_llmperf.run import Run
from pytest_llmperf.timeline import Timeline

FinishReason = Literal["length", "eos", "stop", "end"]


@dataclass(frozen=True)
class Generation:
    """The outcome of one request.

    Attributes:
        text: the output, detokenized once at the end.
        token_ids: output token ids, in order; empty where an ``app`` engine yields text.
        prompt_token_ids: the prompt's token ids; empty if the engine does not report them.
        timeline: arrival time of every output token, see Timeline.
        finish_reason: ``length`` (max_tokens reached), ``eos``, ``stop`` (a stop
            string), or ``end`` (an ``app`` engine finished).
        cache: the request's cache mode; metrics compare only within one mode.
        instruments: tracers, debug modes and the like that slowed the engine's process.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_token_ids: tuple[int, ...]
    timeline: Timeline
    finish_reason: FinishReason
    cache: str
    instruments: tuple[Instrument, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics defined for this generation, by name, in base units."""
        return compute_all(Run.in_order([self.timeline]))

    @property
    def output_tokens(self) -> int:
        """Number of output tokens."""
        return self.timeline.output_tokens

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "text": self.text,
            "token_ids": list(self.token_ids),
            "prompt_token_ids": list(self.prompt_token_ids),
            "timeline": self.timeline.to_wire(),
            "finish_reason": self.finish_reason,
            "cache": self.cache,
            "instruments": [list(instrument) for instrument in self.instruments],
        }

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Generation:
        """Rebuild a generation from ``to_wire``'s output."""
        return cls(
            text=data["text"],
            token_ids=tuple(data["token_ids"]),
            prompt_token_ids=tuple(data["prompt_token_ids"]),
            timeline=Timeline.from_wire(data["timeline"]),
            finish_reason=data["finish_reason"],
            cache=data["cache"],
            instruments=tuple(map(Instrument.from_wire, data["instruments"])),
        )


def received_generation(data: dict[str, Any], engine: str, seconds: float) -> Generation:
    """Rebuild a generation that a worker sent, if it is plausible.

    Args:
        data: the output of ``to_wire`` in the worker.
        engine: its name in messages.
        seconds: how long the request took, by this process's clock.

    Raises:
        EngineError: it is no generation, or its times are impossible.
    """
    try:
        generation = Generation.from_wire(data)
        clock_error = generation.timeline.clock_error(seconds)
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(
            f"the answer of {engine} can't be read ({type(error).__name__}: {error}): something in "
            "its process writes to descriptors that it did not open, or changed the plugin's own "
            "modules there; remove that"
        ) from error
    if clock_error is not None:
        raise EngineError(
            f"the times of {engine} can't be right: {clock_error}. Something replaced or set the "
            "clock of its process; remove it, and measure again"
        )
    return generation
