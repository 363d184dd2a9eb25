"""Answers of the server simulator: the plan for a request, and the events of a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

#: Characters of one, two, three and four bytes.
TEXTS = ("a", "é", "…", "😀")
FAULTS = (
    "reset",
    "stall",
    "slow_body",
    "bad_frame",
    "status",
    "error_event",
    "error_frame",
    "error_field",
    "cut_short",
    "half_frame",
    "no_stream",
    "no_http",
    "compressed",
    "endless_frame",
)


@dataclass(frozen=True)
class Plan:
    """How a request is answered.

    Attributes:
        first: seconds from the request's start to its first token.
        cold: extra seconds before the first token of the server's first request; 3% less for
            each later request.
        gap: seconds from token to token.
        tokens: number of output tokens; None takes the request's ``max_tokens``.
        tokens_per_chunk: number of tokens sent together, when the last of them is due.
        reasoning: number of tokens at the beginning that are reasoning.
        tool_calls: whether the other tokens are parts of a tool call.
        role_first: whether a chunk with only the role comes first, as soon as the request starts.
        usage: ``own_chunk`` without choices, ``with_choices``, ``truncated`` (without the number
            of output tokens) or ``none``.
        cached: number of the prompt's five tokens that came from a cache.
        cached_told: whether usage states ``cached``.
        timings: whether llama.cpp's timings are sent.
        done: whether the stream ends with ``[DONE]``.
        finish: the reason sent at the end; None sends none.
        piece: bytes per write; None writes whole events.
        line_end: line ending in the stream.
        comments: whether a comment line precedes each event.
        fault: one of ``FAULTS``, or None.
        fault_at: number of chunks sent before the fault.
        faulty_share: share of requests that get ``fault``.
        status: HTTP status of the fault ``status``.
        error: error text in the faults that have one.
        model: name of the model that answers.
        renamed_after: number of engines that start before another model answers.
        forgets_at: number of requests after which the server's counts start anew, as by a restart.
    """

    first: float = 0.0
    cold: float = 0.0
    gap: float = 0.0
    tokens: int | None = None
    tokens_per_chunk: int = 1
    reasoning: int = 0
    tool_calls: bool = False
    role_first: bool = False
    usage: str = "own_chunk"
    cached: int = 2
    cached_told: bool = True
    timings: bool = False
    done: bool = True
    finish: str | None = "length"
    piece: int | None = None
    line_end: str = "\n"
    comments: bool = False
    fault: str | None = None
    fault_at: int = 1
    faulty_share: float = 1.0
    status: int = 429
    error: str = "out of memory"
    model: str = "simulated"
    renamed_after: int | None = None
    forgets_at: int | None = None


@dataclass
class Truth:
    """The true course of a request.

    Attributes:
        number: the client's number for the request (field ``number`` of ``simulate``), or None.
        received: when the server had read the request.
        started: when the request left the queue, or None.
        chunks: when each chunk with output was written, and its number of tokens.
        finished: when the stream's end was written, or None.
        fault: the fault in the answer, or None.
        authorization: the request's Authorization header, or None.
    """

    number: int | None
    received: float
    started: float | None = None
    chunks: list[tuple[float, int]] = field(default_factory=list)
    finished: float | None = None
    fault: str | None = None
    authorization: str | None = None


FAULTY_FRAMES = {
    "bad_frame": "data: {ERROR",
    "error_event": "event: error\ndata: ERROR",
    "error_frame": "data: ERROR",
    "error_field": "error: ERROR",
}


def event_of(plan: Plan, frame: str) -> bytes:
    comment = ": still here\n" if plan.comments else ""
    return f"{comment}{frame}\n\n".replace("\n", plan.line_end).encode()


@lru_cache(maxsize=1024)
def events_of(plan: Plan, chat: bool) -> tuple[tuple[float, bytes, int], ...]:
    """Return the events of an answer: seconds after its start, bytes and number of tokens."""
    assert plan.tokens is not None
    events = []
    if plan.role_first:
        role = {"role": "assistant", "content": ""}
        events.append((0.0, _frame(plan, [_choice(chat, role)]), 0))
    sent, after = 0, 0.0
    while sent < plan.tokens:
        tokens = min(plan.tokens_per_chunk, plan.tokens - sent)
        if sent < plan.reasoning:
            tokens = min(tokens, plan.reasoning - sent)
        after = plan.first + plan.gap * (sent + tokens - 1)
        text = "".join(TEXTS[number % len(TEXTS)] for number in range(sent, sent + tokens))
        events.append((after, _frame(plan, [_choice(chat, _delta(plan, text, sent))]), tokens))
        sent += tokens
    usage: dict[str, Any] = {"prompt_tokens": 5}
    if plan.cached_told:
        usage["prompt_tokens_details"] = {"cached_tokens": plan.cached}
    if plan.usage != "truncated":
        usage["completion_tokens"] = plan.tokens
    last: dict[str, Any] = {}
    if plan.usage == "with_choices":
        last["usage"] = usage
    if plan.timings:
        last["timings"] = {"cache_n": 2, "prompt_n": 3, "predicted_n": plan.tokens}
    if plan.finish is not None or last:
        events.append((after, _frame(plan, [_choice(chat, {}, plan.finish)], **last), 0))
    if plan.usage in ("own_chunk", "truncated"):
        events.append((after, _frame(plan, [], usage=usage), 0))
    return tuple((after, event_of(plan, frame), tokens) for after, frame, tokens in events)


def _delta(plan: Plan, text: str, sent: int) -> dict[str, Any]:
    if sent < plan.reasoning:
        return {"reasoning_content": text}
    if plan.tool_calls:
        return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
    return {"content": text}


def _choice(chat: bool, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    part = {"delta": delta} if chat else {"text": delta.get("content", "")}
    return {"index": 0, **part, "finish_reason": finish}


def _frame(plan: Plan, choices: list[dict[str, Any]], **more: Any) -> str:
    frame = {"id": "1", "model": plan.model, "system_fingerprint": "b1", "choices": choices}
    return "data: " + json.dumps({**frame, **more}, ensure_ascii=False, separators=(",", ":"))
