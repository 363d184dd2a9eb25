"""Whether a request fits into the model's context."""

from __future__ import annotations

from pytest_llmperf.engine.errors import EngineError


def check_room(prompt_tokens: int, max_tokens: int, configured: int, allocated: int) -> None:
    """Refuse a request that does not fit.

    Args:
        prompt_tokens, max_tokens: of the request.
        configured: ``llm.n_ctx``.
        allocated: the context that llama.cpp made of it; it rounds up.

    Raises:
        EngineError: with the numbers, and the setting that would do.
    """
    needed = prompt_tokens + max_tokens
    if needed <= allocated:
        return
    raise EngineError(
        f"the context is too small: {prompt_tokens} prompt tokens + {max_tokens} output tokens > "
        f"n_ctx {configured}; raise llm.n_ctx to at least {needed}"
        f"{rounded_text(configured, allocated)}"
    )


def rounded_text(configured: int, allocated: int) -> str:
    """Say what llama.cpp made of a configured context where that differs; or nothing."""
    if allocated == configured:
        return ""
    return f" (llama.cpp rounds {configured} up to {allocated})"
