"""Prompts with words in front: never the same ones, always of the same length."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.engine.server.answer import ServerRequest
from pytest_llmperf.engine.server.prompts import made_unique


def texts(count: int) -> list[str]:
    """Prompts made of the same one."""
    draw = random.Random(1)
    prompts = [made_unique(ServerRequest(prompt="Hello"), draw).prompt for _ in range(count)]
    return [str(prompt) for prompt in prompts]


def by_model(text: str) -> int:
    """Number of tokens of the embedded model."""
    from llama_cpp import Llama

    model = Llama(str(resolve_model("smollm2-135m", Path())), vocab_only=True, verbose=False)
    return len(model.tokenize(text.encode(), add_bos=False))


def by_byte(text: str) -> int:
    """Number of tokens where each is a byte."""
    return len(text.encode())


@pytest.mark.parametrize(("tokens", "of_hello"), [(by_model, 1), (by_byte, 6)])
def test_prompts_are_of_equal_length_for_a_vocabulary_and_for_bytes(
    tokens: Callable[[str], int], of_hello: int
) -> None:
    lengths = {tokens(text) for text in texts(16)}
    assert len(lengths) == 1
    assert lengths == {tokens(" ".join(["time"] * 8)) + of_hello}


def test_no_two_prompts_begin_alike() -> None:
    made = texts(200)
    assert len({text.rsplit(" ", 1)[0] for text in made}) == 200
    assert all(text.endswith(" Hello") for text in made)
