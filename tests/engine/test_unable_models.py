"""Models that can't generate text are refused, with the reason, instead of measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_architectures import (
    tiny_bert,
    tiny_damaged,
    tiny_t5,
    tiny_two_way,
    tiny_without_vocabulary,
)
from tiny_models import tiny_llama

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.request import Request

Start = Callable[..., EngineClient]

#: Greedy, and by llama.cpp's own sampler chain.
SAMPLED = [{}, {"temperature": 0.8}, {"repeat_penalty": 1.1}]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (tiny_bert, "bert, is an encoder: it produces embeddings"),
        (lambda: tiny_t5(encoder_only=True), "t5encoder, is an encoder: it produces embeddings"),
        (tiny_t5, "t5, is an encoder with a decoder"),
        (tiny_two_way, "its attention is bidirectional"),
        (tiny_without_vocabulary, "it has no tokenizer"),
    ],
)
def test_a_model_that_generates_nothing_is_refused(
    tiny_client: Start, make: Callable[[], Path], why: str
) -> None:
    file = make()
    with pytest.raises(EngineLoadError) as caught:
        tiny_client(file)
    message = str(caught.value)
    assert message.startswith(f"{file} can't generate text: ")
    assert why in message
    assert "llm.model_path" in message
    assert "truncated" not in message


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"vocab_only": True}, "llm.extra.vocab_only leaves its weights out"),
        ({"attention_type": 1}, "llm.extra.attention_type"),
    ],
)
def test_a_setting_that_leaves_nothing_to_generate_with_is_refused(
    tiny_client: Start, extra: dict[str, Any], why: str
) -> None:
    with pytest.raises(EngineLoadError) as caught:
        tiny_client(tiny_llama(), extra=extra)
    assert why in str(caught.value)


def error_of(client: EngineClient, sampling: dict[str, float]) -> str:
    """Return the error message of a request."""
    with pytest.raises(EngineError) as caught:
        client.request(Request(prompt="Hello", max_tokens=8, sampling=sampling))
    return str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error(tiny_client: Start, value: float) -> None:
    client = tiny_client(tiny_damaged(value=value))
    for sampling in SAMPLED:
        message = error_of(client, sampling)
        assert message.startswith("the model's output is not a number (a logit is nan)")
        assert "SHA-256" in message
    assert client.alive


def test_one_logit_that_is_no_number_is_an_error_even_where_it_is_not_chosen(
    tiny_client: Start,
) -> None:
    client = tiny_client(tiny_damaged(row=100))
    for sampling in SAMPLED:
        assert "is not a number (a logit is nan)" in error_of(client, sampling)


def test_banned_tokens_are_no_damage(tiny_client: Start) -> None:
    # Their logits are minus infinity, which is a number that is never chosen.
    client = tiny_client(tiny_llama())
    for sampling in SAMPLED:
        request = Request(prompt="Hello", max_tokens=30, sampling=sampling)
        assert client.request(request).output_tokens == 30
