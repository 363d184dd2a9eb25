"""Figures of real models: equal models agree, coarser ones do not, different ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import VOCABULARY, TinyModel, tiny_llama, tiny_model

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.quality.errors import QualityError
from pytest_llmperf.quality.passages import Prompt, Text


def test_the_same_model_and_settings_agree_everywhere(quality, spec) -> None:
    result = quality(spec(), spec())
    assert result.kl == 0.0
    assert result.kl_interval == (0.0, 0.0)
    assert result.top1 == 1.0
    assert result.perplexity == result.reference_perplexity
    assert result.perplexity_increase == 0.0
    assert result.greedy_agreement == result.greedy_tokens > 0
    # Positions 32 to 62 of four chunks of 64 tokens are scored, and the prompt with its answer.
    assert result.tokens > 4 * 31
    assert result.candidate == result.reference == "tiny-llama.gguf"


def test_a_coarser_quantization_diverges(quality, spec, coarse: Path) -> None:
    result = quality(spec(coarse), spec())
    low, high = result.kl_interval
    assert 0.0 < low < result.kl < high
    assert result.top1 < 1.0
    assert result.top1_interval[0] < result.top1
    assert result.perplexity_increase != 0.0
    assert result.greedy_agreement < result.greedy_tokens
    assert (result.candidate, result.reference) == ("coarse.gguf", "tiny-llama.gguf")


def test_a_coarser_kv_cache_diverges(quality, spec) -> None:
    # Heads of 32 numbers, with four bits each.
    result = quality(spec(flash_attn=True, type_k="q4_0", type_v="q4_0"), spec(flash_attn=True))
    assert result.kl_interval[0] > 0.0


def test_the_divergence_is_nearly_that_of_the_whole_vocabulary(quality, spec, coarse) -> None:
    exact = quality(spec(coarse), spec(), top=VOCABULARY)
    assert exact.kl_bound == exact.kl
    result = quality(spec(coarse), spec(), top=64)
    # This model's distribution is flat: more is outside the top 64 than with a real model.
    assert 0.0 < result.kl_bound < 0.7 * exact.kl
    assert result.kl == pytest.approx(exact.kl, rel=0.02)
    assert (result.top1, result.perplexity) == (exact.top1, exact.perplexity)


def test_what_two_prompts_begin_with_counts_once(quality, spec) -> None:
    begin = (1, *b"the same beginning of two prompts")
    first = Prompt(begin + tuple(b" of a"), 0)
    second = Prompt(begin + tuple(b" zebra"), 0)
    result = quality(spec(), spec(), first, second, first)
    assert result.tokens == (len(first.tokens) - 1) + (len(b"zebra") - 1)


def test_a_prompt_longer_than_a_batch_is_scored_alike(quality, spec) -> None:
    material = Text("never the same word twice, " * 20)
    result = quality(spec(n_batch=16, n_ubatch=16), spec(), material)
    assert result.kl == pytest.approx(0.0, abs=1e-6)
    assert result.perplexity == pytest.approx(result.reference_perplexity, rel=1e-4)


def test_another_vocabulary_is_refused(quality, spec) -> None:
    def fill(model: TinyModel) -> None:
        add = model.writer.add_token_list
        model.writer.add_token_list = lambda tokens: add([t.replace("w", "x") for t in tokens])
        model.vocabulary(None)
        model.transformer(1, 64)

    recipe = {"architecture": "llama", "words": "x"}
    other = tiny_model(recipe, fill, name="other-words")
    with pytest.raises(QualityError) as caught:
        quality(spec(other), spec())
    assert str(caught.value) == (
        f"other-words.gguf can't be compared with the reference tiny-llama.gguf: its vocabulary "
        f"also has {VOCABULARY} tokens, but different ones; name another quantization of the same "
        "model as the reference"
    )


def test_an_engine_without_probabilities_is_refused(quality, spec) -> None:
    app = LaunchSpec("app", {"target": "toy:answer"})
    with pytest.raises(QualityError, match=r"'app' reports no probabilities; set llm\.engine"):
        quality(app, spec())


def test_a_text_that_says_nothing_is_refused(quality, spec) -> None:
    with pytest.raises(QualityError, match=r"short\.txt has 6 tokens, and quality needs at"):
        quality(spec(), spec(), Text("short", "short.txt"))
    with pytest.raises(QualityError, match="nothing to score"):
        quality(spec(), spec(), Prompt((1,), 0))


def test_a_prompt_that_does_not_fit_is_an_error_of_the_engine(quality, spec) -> None:
    with pytest.raises(EngineError, match=r"raise llm\.n_ctx to at least"):
        quality(spec(), spec(), Prompt(tuple(range(5, 300)), 0))


def test_a_model_that_is_no_model_is_an_error_of_the_engine(quality, spec, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_llama(seed=1).read_bytes()[:5000])
    with pytest.raises(EngineError, match=r"could not load .*broken\.gguf"):
        quality(spec(broken), spec())
