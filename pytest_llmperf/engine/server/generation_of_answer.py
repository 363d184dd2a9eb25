"""Conversion of a server's answer to a generation: the server's counts, its chunks' times."""

from __future__ import annotations

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.generation import FinishReason, Generation
from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine.server.answer import ServerAnswer
from pytest_llmperf.engine.server.settings import Api
from pytest_llmperf.timeline import Timeline

#: Maximum number of prompt tokens that a chat template puts before the first message. A cache
#: serves them whatever the prompt is. Without a template, it is the beginning-of-text token.
TEMPLATE_TOKENS: dict[Api, int] = {"chat": 64, "completions": 1}


def generation_of(
    answer: ServerAnswer, request: Request, api: Api, *, is_shared: bool
) -> Generation:
    """Convert a server's answer to a generation.

    Chunks are not tokens: the number of output tokens is the server's own count, and the times
    are those of the chunks with output, reasoning included.

    Args:
        answer: the server's answer.
        request: the request as the test made it.
        api: API through which the server was asked.
        is_shared: whether the prompt may be served from the server's cache.

    Raises:
        EngineError: the server does not report how many tokens it generated, or the answer does
            not match the request.
    """
    arrivals, tokens = answer.output_chunks, answer.output_tokens
    if tokens is None:
        raise EngineError(
            "the server does not report token counts, and its chunks are not tokens; use a "
            "server version that supports stream_options.include_usage, or set in llm.body what "
            "makes it report usage"
        )
    if tokens and not arrivals:
        raise EngineError(
            f"the server counts {tokens} output tokens, and sent none of them; there is nothing "
            "to time"
        )
    limit = request.max_tokens
    if limit is not None and tokens > limit:
        raise EngineError(
            f"the server generated {tokens} tokens although {limit} were requested: it ignores "
            "max_tokens; set its own name for that field in llm.body"
        )
    reason = _reason(answer, request)
    if reason == "length" and limit is not None and tokens < limit:
        raise EngineError(
            f"the server's context was full after {tokens} of {limit} output tokens; start it "
            "with a larger context, or ask for fewer tokens"
        )
    return Generation(
        text=answer.text,
        token_ids=(),
        prompt_token_ids=(),
        timeline=Timeline(
            t_start=answer.sent,
            token_times=tuple(chunk.time for chunk in arrivals),
            prompt_tokens=answer.prompt_tokens,
            prompt_tokens_evaluated=None if is_shared else _evaluated(answer, api),
            tokens=tokens,
            t_first_answer=answer.first_answer,
            prompt_tokens_cached=answer.cached_tokens,
        ),
        finish_reason=reason,
        cache=request.cache,
    )


def _reason(answer: ServerAnswer, request: Request) -> FinishReason:
    if answer.finish_reason == "length":
        return "length"
    if answer.finish_reason == "stop":
        return "stop" if request.stop else "eos"
    return "end"


def _evaluated(answer: ServerAnswer, api: Api) -> int | None:
    """Return how many prompt tokens the server evaluated; None if not reported."""
    prompt, cached = answer.prompt_tokens, answer.cached_tokens
    if prompt is None or cached is None:
        return None
    return prompt if cached <= TEMPLATE_TOKENS[api] else prompt - cached
