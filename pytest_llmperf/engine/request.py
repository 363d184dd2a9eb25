"""One request to an engine: the prompt, how many tokens to make of it, and how to sample them."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field
from numbers import Integral
from typing import Any, Literal

CacheMode = Literal["clear", "keep"]

#: Sampling parameters an engine takes, with the value each has when a request
#: does not name it. Greedy by default: the same prompt is then the same work.
SAMPLING_DEFAULTS: dict[str, float | int] = {
    "temperature": 0.0,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "mirostat_mode": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.1,
}


@dataclass(frozen=True)
class Request:
    """One request to an engine; exactly one of ``prompt`` and ``messages`` is set.

    Attributes:
        prompt: text, or token ids that are evaluated as they are.
        messages: a chat, formatted with the model's own template.
        max_tokens: number of output tokens; exact while ``ignore_eos`` holds and
            no stop string is met. None lets an ``app`` engine finish by itself.
        ignore_eos: whether end-of-sequence tokens are banned, so that the
            number of output tokens is fixed.
        stop: strings that end the generation.
        cache: ``"clear"`` empties the KV cache first, so that the whole prompt is
            evaluated; ``"keep"`` reuses the longest common prefix of what the
            last request left in it.
        stream: whether every token is sent to the caller as it arrives.
        grammar: a GBNF grammar the output must follow.
        seed: of the sampler; None takes the configured one.
        sampling: values for any of SAMPLING_DEFAULTS.
    """

    prompt: str | tuple[int, ...] | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    max_tokens: int | None = None
    ignore_eos: bool = True
    stop: tuple[str, ...] = ()
    cache: CacheMode = "clear"
    stream: bool = False
    grammar: str | None = None
    seed: int | None = None
    sampling: dict[str, float | int] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Request:
        """Rebuild a request from ``to_wire``'s output after a trip through JSON."""
        prompt, messages = data["prompt"], data["messages"]
        return cls(
            **{
                **data,
                "prompt": tuple(prompt) if isinstance(prompt, list) else prompt,
                "messages": None if messages is None else tuple(messages),
                "stop": tuple(data["stop"]),
            }
        )


def build_request(
    *,
    prompt: str | list[int] | tuple[int, ...] | None = None,
    messages: list[dict[str, Any]] | tuple[dict[str, Any], ...] | None = None,
    max_tokens: int | None,
    ignore_eos: bool | None = None,
    stop: str | list[str] | tuple[str, ...] | None = None,
    cache: str = "clear",
    stream: bool = False,
    grammar: str | None = None,
    seed: int | None = None,
    **sampling: float | int,
) -> Request:
    """Check a caller's arguments and turn them into a Request.

    Raises:
        TypeError: an argument of the wrong type, or an unknown sampling
            parameter (the message names the nearest known one).
        ValueError: an argument out of range, or two that contradict each other.
    """
    if isinstance(prompt, list | tuple):
        prompt = tuple(map(_as_integer, prompt))
        if not all(type(token) is int and token >= 0 for token in prompt):
            raise TypeError("prompt: a list must hold token ids (integers >= 0)")
    elif prompt is not None and not isinstance(prompt, str):
        raise TypeError(f"prompt: expected text or a list of token ids, got {prompt!r}")
    if messages is not None:
        messages = _check_messages(messages)
    if not prompt and not messages:
        raise ValueError("an empty prompt: nothing to evaluate")
    max_tokens, seed = _as_integer(max_tokens), _as_integer(seed)
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise ValueError(f"max_tokens: expected an integer >= 1, got {max_tokens!r}")
    if cache not in ("clear", "keep"):
        raise ValueError(f"cache: expected 'clear' or 'keep', got {cache!r}")
    if grammar is not None and not isinstance(grammar, str):
        raise TypeError(f"grammar: expected GBNF text, got {grammar!r}")
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**32):
        raise ValueError(f"seed: expected an integer from 0 to 2**32 - 1, got {seed!r}")
    if grammar is not None and ignore_eos:
        raise ValueError(
            "ignore_eos=True with a grammar: the grammar decides where the output ends; "
            "leave ignore_eos out"
        )
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if not all(isinstance(item, str) and item for item in stops):
        raise TypeError(f"stop: expected strings, got {stop!r}")
    for name, value in sampling.items():
        if name not in SAMPLING_DEFAULTS:
            near = difflib.get_close_matches(name, [*SAMPLING_DEFAULTS, "max_tokens", "seed"], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(SAMPLING_DEFAULTS)
            raise TypeError(f"unknown argument {name!r}{hint} (sampling parameters: {known})")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name}: expected a number, got {value!r}")
    if sampling.get("mirostat_mode", 0) not in (0, 1, 2):
        raise ValueError(f"mirostat_mode: expected 0, 1 or 2, got {sampling['mirostat_mode']!r}")
    return Request(
        prompt=prompt,
        messages=messages,
        max_tokens=max_tokens,
        ignore_eos=(grammar is None) if ignore_eos is None else ignore_eos,
        stop=stops,
        cache="keep" if cache == "keep" else "clear",
        stream=stream,
        grammar=grammar,
        seed=seed,
        sampling=dict(sorted(sampling.items())),
    )


def _as_integer(value: Any) -> Any:
    """Convert an integer of another type, such as numpy's, to an int; leave the rest as it is."""
    return value if isinstance(value, bool) or not isinstance(value, Integral) else int(value)


def _check_messages(messages: Any) -> tuple[dict[str, Any], ...]:
    if isinstance(messages, str) or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
    ):
        raise TypeError('messages: expected a list of {"role": ..., "content": ...}')
    return tuple(messages)
