"""Requests to a server, and its answers: chunks with their times, and the server's counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

#: Content of a chunk: text of the answer, text of the reasoning before it, a part of a tool call,
#: only the role that a chat begins with, only the reason why the answer ended, only the server's
#: counts (no choices), or nothing.
ChunkKind = Literal["text", "reasoning", "tool_call", "role", "finish", "usage", "empty"]
#: Kinds of chunks that carry output of the model.
OUTPUT_KINDS: frozenset[ChunkKind] = frozenset(("text", "reasoning", "tool_call"))


@dataclass(frozen=True)
class ServerRequest:
    """One request to a server; exactly one of ``prompt`` and ``messages`` is set.

    Attributes:
        prompt: text or token ids. The chat API sends a text as the user's message.
        messages: messages of a chat.
        max_tokens: number of output tokens asked for; None leaves it to the server.
        body: additional fields of the request's body; a value of None removes a field.
    """

    prompt: str | tuple[int, ...] | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    max_tokens: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> ServerRequest:
        """Rebuild a request from ``asdict``'s output after a trip through JSON."""
        prompt, messages = data["prompt"], data["messages"]
        return cls(
            tuple(prompt) if isinstance(prompt, list) else prompt,
            None if messages is None else tuple(messages),
            data["max_tokens"],
            data["body"],
        )


class Chunk(NamedTuple):
    """One chunk of a streamed answer: several tokens, a part of one, or none.

    Attributes:
        time: arrival time of its bytes.
        text: text of the answer.
        reasoning: text before the answer, if the server separates it.
        kind: kind of its content.
        tokens: number of its tokens, if the server reports them (``token_ids``); else None.
    """

    time: float
    text: str
    reasoning: str
    kind: ChunkKind
    tokens: int | None = None


@dataclass(frozen=True)
class Usage:
    """The server's own token counts; None if it did not report them."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None


@dataclass(frozen=True)
class ServerAnswer:
    """A complete answer. All times are seconds on the client's clock.

    Attributes:
        asked: when the request was given to the client.
        sent: when the connection was ready, just before the request was written.
        chunks: all chunks in order of arrival.
        finished: arrival time of the stream's end.
        usage: the server's own token counts.
        timings: llama.cpp's own times and counts, or None.
        fingerprint: ``system_fingerprint``: the server's build and configuration, or None.
        model: name of the model that answered, or None.
        finish_reason: the server's own (``stop``, ``length``, ...), or None.
    """

    asked: float
    sent: float
    chunks: tuple[Chunk, ...]
    finished: float
    usage: Usage = Usage()
    timings: Mapping[str, Any] | None = None
    fingerprint: str | None = None
    model: str | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        """Text of the answer, without its reasoning."""
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def output_chunks(self) -> tuple[Chunk, ...]:
        """Chunks that carry output of the model."""
        return tuple(chunk for chunk in self.chunks if chunk.kind in OUTPUT_KINDS)

    @property
    def first_answer(self) -> float | None:
        """Arrival time of the first chunk of the answer, after any reasoning, or None."""
        own = (chunk.time for chunk in self.output_chunks if chunk.kind != "reasoning")
        return next(own, None)

    @property
    def output_tokens(self) -> int | None:
        """Number of output tokens by the server's own count, reasoning included, or None."""
        if self.usage.completion is not None:
            return self.usage.completion
        return _count((self.timings or {}).get("predicted_n"))

    @property
    def prompt_tokens(self) -> int | None:
        """Number of the prompt's tokens by the server's own count, or None."""
        if self.usage.prompt is not None:
            return self.usage.prompt
        evaluated, cached = (_count((self.timings or {}).get(n)) for n in ("prompt_n", "cache_n"))
        return None if evaluated is None or cached is None else evaluated + cached

    @property
    def cached_tokens(self) -> int | None:
        """Number of the prompt's tokens that the server took from its cache, or None."""
        if self.usage.cached is not None:
            return self.usage.cached
        return _count((self.timings or {}).get("cache_n"))


class FrameError(ValueError):
    """A frame of the stream is not a chunk of an answer."""


class ServerSaysError(Exception):
    """The server reported a failure within the stream."""


class AnswerBuilder:
    """Builds an answer from the frames of its stream."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.usage = Usage()
        self.timings: Mapping[str, Any] | None = None
        self.fingerprint: str | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None

    def take(self, time: float, frame: Any) -> None:
        """Add one frame, decoded from JSON.

        Raises:
            FrameError: it is not a chunk of an answer.
            ServerSaysError: it reports a failure.
        """
        if not isinstance(frame, dict):
            raise FrameError("expected a JSON object")
        if frame.get("error") or frame.get("object") == "error":
            raise ServerSaysError
        if usage := frame.get("usage"):
            self.usage = _usage(usage)
        if timings := frame.get("timings"):
            self.timings = timings if isinstance(timings, dict) else None
        if self.model is None:
            self.model = _text(frame.get("model")) or None
        if self.fingerprint is None:
            self.fingerprint = _text(frame.get("system_fingerprint")) or None
        choices = frame.get("choices")
        if choices:
            try:
                self.chunks.append(self._chunk(time, choices[0]))
            except (AttributeError, KeyError, TypeError) as error:
                raise FrameError("its choices have another form than the API states") from error
        elif usage or timings or choices is not None:
            self.chunks.append(Chunk(time, "", "", "usage" if usage or timings else "empty"))
        else:
            raise FrameError("it has neither choices nor usage")

    def _chunk(self, time: float, choice: dict[str, Any]) -> Chunk:
        finish = choice.get("finish_reason")
        if finish is not None:
            self.finish_reason = str(finish)
        token_ids = choice.get("token_ids")
        tokens = len(token_ids) if token_ids is not None else None
        delta = choice.get("delta")
        if delta is None:
            text = _text(choice.get("text"))
            kind: ChunkKind = "text" if text else "finish" if finish is not None else "empty"
            return Chunk(time, text, "", kind, tokens)
        text = _text(delta.get("content"))
        reasoning = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
        if text:
            kind = "text"
        elif reasoning:
            kind = "reasoning"
        elif delta.get("tool_calls"):
            kind = "tool_call"
        elif finish is not None:
            kind = "finish"
        else:
            kind = "role" if "role" in delta else "empty"
        return Chunk(time, text, reasoning, kind, tokens)

    def answer(self, asked: float, sent: float, finished: float) -> ServerAnswer:
        """Return the complete answer."""
        return ServerAnswer(
            asked,
            sent,
            tuple(self.chunks),
            finished,
            self.usage,
            self.timings,
            self.fingerprint,
            self.model,
            self.finish_reason,
        )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and value >= 0 else None  # type: ignore[operator,return-value]


def _usage(usage: object) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(
        _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached)
    )
