from __future__ import annotations

import pytest

from pytest_llmperf.engine.handle import LlmEngine

PROMPT = "The quick brown fox jumps over the lazy dog, and then it"


def test_a_repeated_prompt_is_evaluated_whole_again(engine: LlmEngine) -> None:
    engine.generate(PROMPT)

    timeline = engine.generate(PROMPT).timeline

    assert timeline.prompt_tokens_evaluated == timeline.prompt_tokens


def test_keeping_the_cache_evaluates_only_what_is_new(engine: LlmEngine) -> None:
    engine.generate(PROMPT)

    timeline = engine.generate(PROMPT, cache="keep").timeline

    # At least one token, to have logits to sample from.
    assert timeline.prompt_tokens_evaluated == 1
    assert timeline.prompt_tokens is not None
    assert timeline.prompt_tokens > 1


def test_what_is_kept_is_the_common_beginning(engine: LlmEngine) -> None:
    first = engine.generate(PROMPT)
    ids = list(first.prompt_token_ids)

    timeline = engine.generate([*ids[:6], 20, 21, 22], cache="keep").timeline

    assert timeline.prompt_tokens_evaluated == 3


def test_a_kept_cache_changes_no_token(engine: LlmEngine) -> None:
    clear = engine.generate(PROMPT)

    assert engine.generate(PROMPT, cache="keep").token_ids == clear.token_ids


def test_a_conversation_continues_after_the_answer(engine: LlmEngine) -> None:
    first = engine.generate(PROMPT, max_tokens=4)
    talk = [*first.prompt_token_ids, *first.token_ids, 20, 21]

    timeline = engine.generate(talk, max_tokens=2, cache="keep").timeline

    # The last token of the answer was sampled and never evaluated.
    assert timeline.prompt_tokens_evaluated == 3


def test_as_much_is_kept_after_end_of_sequence_as_after_a_fixed_number_of_tokens(
    engine: LlmEngine,
) -> None:
    chat = [{"role": "user", "content": "Reply with the single word: yes"}]
    ended = engine.chat(chat, max_tokens=60, ignore_eos=False)
    assert ended.finish_reason == "eos"
    talk = [*ended.prompt_token_ids, *ended.token_ids, 20]
    after_end = engine.generate(talk, max_tokens=1, cache="keep").timeline

    engine.chat(chat, max_tokens=ended.output_tokens)
    after_fixed = engine.generate(talk, max_tokens=1, cache="keep").timeline

    assert after_end.prompt_tokens_evaluated == after_fixed.prompt_tokens_evaluated == 2


def test_reset_forgets_what_was_kept(engine: LlmEngine) -> None:
    engine.generate(PROMPT)

    engine.reset()

    timeline = engine.generate(PROMPT, cache="keep").timeline
    assert timeline.prompt_tokens_evaluated == timeline.prompt_tokens


def test_a_refused_request_leaves_nothing_to_keep(engine: LlmEngine) -> None:
    engine.generate(PROMPT)
    with pytest.raises(Exception, match="too small"):
        engine.generate([1] * 600, cache="keep")

    timeline = engine.generate(PROMPT, cache="keep").timeline

    assert timeline.prompt_tokens_evaluated == timeline.prompt_tokens
