"""Checks that a request fits into the model's context."""

from __future__ import annotations

from pytest_llmperf.engine.errors import EngineError


def check_context(prompt_tokens: int, max_tokens: int, configured: int, allocated: int) -> None:
    """Refuse a request that does not fit into the context.

    Args:
        prompt_tokens, max_tokens: of the request.
        configured: ``llm.n_ctx``.
        allocated: the context that llama.cpp allocated for it; it rounds up.

    Raises:
        EngineError: it does not fit; the message names a setting that would be enough.
    """
    needed = prompt_tokens + max_tokens
    if needed <= allocated:
        return
    raise EngineError(
        f"the context is too small: {prompt_tokens} prompt tokens + {max_tokens} output tokens > "
        f"n_ctx {configured}; raise llm.n_ctx to at least {needed}"
        f"{context_rounding(configured, allocated)}"
    )


def context_rounding(configured: int, allocated: int) -> str:
    """Describe how llama.cpp rounded the configured context up; empty if it did not."""
    if allocated == configured:
        return ""
    return f" (llama.cpp rounds {configured} up to {allocated})"
