"""Prompts that leading words make unique: never the same words, always the same length."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.engine.server.answer import ServerRequest
from pytest_llmperf.engine.server.prompts import with_unique_prompt


def texts(count: int) -> list[str]:
    """Return unique prompts made from the same prompt."""
    draw = random.Random(1)
    prompts = [with_unique_prompt(ServerRequest(prompt="Hello"), draw).prompt for _ in range(count)]
    return [str(prompt) for prompt in prompts]


def by_model(texts: list[str]) -> list[int]:
    """Return each text's number of tokens in the embedded model's vocabulary."""
    from llama_cpp import Llama

    model = Llama(str(resolve_model("smollm2-135m", Path())), vocab_only=True, verbose=False)
    try:
        return [len(model.tokenize(text.encode(), add_bos=False)) for text in texts]
    finally:
        model.close()


def by_byte(texts: list[str]) -> list[int]:
    """Return each text's number of tokens if every byte is a token."""
    return [len(text.encode()) for text in texts]


@pytest.mark.parametrize("tokens", [by_model, by_byte])
def test_prompts_are_of_equal_length_for_a_vocabulary_and_for_bytes(
    tokens: Callable[[list[str]], list[int]],
) -> None:
    assert len(set(tokens(texts(16)))) == 1


def test_no_two_prompts_begin_alike() -> None:
    made = texts(200)
    assert len({text.rsplit(" ", 1)[0] for text in made}) == 200
    assert all(text.endswith(" Hello") for text in made)
