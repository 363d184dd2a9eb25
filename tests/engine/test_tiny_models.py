"""The tiny models of other tests: llama.cpp loads them, and their answers never change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import VOCABULARY, prompt_tokens, tiny_llama

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.request import Request

Start = Callable[..., EngineClient]


def generate(client: EngineClient, prompt: str = "Hello world") -> Generation:
    return client.request(Request(prompt=prompt, max_tokens=12))


@pytest.mark.parametrize("quantization", ["F32", "F16", "Q8_0"])
def test_a_tiny_model_generates_the_same_every_time(tiny_client: Start, quantization: Any) -> None:
    file = tiny_llama(quantization=quantization)
    client = tiny_client(file)
    generation = generate(client)
    assert file.stat().st_size < 600_000
    assert client.info.architecture == "llama"
    assert client.info.n_vocab == VOCABULARY
    assert len(generation.prompt_token_ids) == prompt_tokens("Hello world") == 12
    assert len(set(generation.token_ids)) > 1
    assert generate(client).token_ids == generation.token_ids
    assert generate(client, "Hello moon!").token_ids != generation.token_ids


def test_another_seed_is_another_model(tiny_client: Start) -> None:
    answers = {generate(tiny_client(tiny_llama(seed=seed))).token_ids for seed in range(3)}
    assert len(answers) == 3


def test_a_tiny_model_has_a_chat_template(tiny_client: Start) -> None:
    client = tiny_client(tiny_llama())
    message = {"role": "user", "content": "Hi"}
    generation = client.request(Request(messages=(message,), max_tokens=4))
    # The marks, two that begin and one that ends a message, are one token each.
    assert len(generation.prompt_token_ids) == 3 + len("user\nHi\nassistant\n")


def test_processes_share_one_file(tmp_path: Path) -> None:
    script = "from tiny_models import tiny_llama; print(tiny_llama(name='shared'))"
    places = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    command = [sys.executable, "-c", script]
    started = [
        subprocess.Popen(command, env={**os.environ, **places}, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    printed = {process.communicate()[0].decode().strip() for process in started}
    assert [str(file) for file in tmp_path.rglob("*.*")] == [*printed]
