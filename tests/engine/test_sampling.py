from __future__ import annotations

import pytest

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.handle import LlmEngine

PROMPT = "Once upon a time"
WARM = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def test_greedy_is_the_default_and_repeats_itself(engine: LlmEngine) -> None:
    assert engine.generate(PROMPT).token_ids == engine.generate(PROMPT, temperature=0).token_ids


def test_the_same_seed_gives_the_same_tokens(engine: LlmEngine) -> None:
    first = engine.generate(PROMPT, seed=7, **WARM)

    assert engine.generate(PROMPT, seed=7, **WARM).token_ids == first.token_ids


def test_another_seed_gives_other_tokens(engine: LlmEngine) -> None:
    first = engine.generate(PROMPT, seed=7, **WARM)

    assert engine.generate(PROMPT, seed=8, **WARM).token_ids != first.token_ids


def test_a_request_without_a_seed_takes_the_configured_one(engine: LlmEngine) -> None:
    configured = engine.generate(PROMPT, **WARM)

    assert engine.generate(PROMPT, seed=42, **WARM).token_ids == configured.token_ids


def test_top_k_of_one_is_greedy_at_any_temperature(engine: LlmEngine) -> None:
    greedy = engine.generate(PROMPT)

    assert engine.generate(PROMPT, temperature=2.0, top_k=1).token_ids == greedy.token_ids


@pytest.mark.parametrize("max_tokens", [12, 40])
def test_greedy_picks_what_llama_cpps_own_chain_picks(engine: LlmEngine, max_tokens: int) -> None:
    # An end of sequence falls into the 40 tokens, so that banning it is compared too.
    chat = [{"role": "user", "content": "Reply with the single word: yes"}]
    ours = engine.chat(chat, max_tokens=max_tokens)

    # A penalty too small to matter sends the request through llama.cpp's sampler chain.
    theirs = engine.chat(chat, max_tokens=max_tokens, presence_penalty=1e-9)

    assert ours.token_ids == theirs.token_ids


def test_a_repeat_penalty_changes_what_repeats(engine: LlmEngine) -> None:
    prompt = "one two one two one two one"
    plain = engine.generate(prompt, max_tokens=12)

    assert engine.generate(prompt, max_tokens=12, repeat_penalty=3.0).token_ids != plain.token_ids


@pytest.mark.parametrize("mode", [1, 2])
def test_mirostat_is_seeded_too(engine: LlmEngine, mode: int) -> None:
    options = {"temperature": 1.0, "mirostat_mode": mode, "seed": 3}
    first = engine.generate(PROMPT, **options)

    assert engine.generate(PROMPT, **options).token_ids == first.token_ids


def test_a_grammar_decides_what_comes_out_and_where_it_ends(engine: LlmEngine) -> None:
    generation = engine.generate("Is water wet?", max_tokens=20, grammar='root ::= "yes" | "no"')

    assert generation.text in ("yes", "no")
    assert generation.finish_reason == "eos"


@pytest.mark.parametrize("grammar", ["root ::= (", 'other ::= "a"'])
def test_a_broken_grammar_is_an_error_and_the_engine_lives_on(
    engine: LlmEngine, grammar: str
) -> None:
    pid = engine.generate(PROMPT, max_tokens=1) and engine.worker_pid

    with pytest.raises(EngineError, match=r"grammar: llama.cpp could not parse it"):
        engine.generate(PROMPT, grammar=grammar)

    assert engine.generate(PROMPT, max_tokens=1).output_tokens == 1
    assert engine.worker_pid == pid
