from __future__ import annotations

import pytest

from pytest_llmperf.engine.handle import LlmEngine

PROMPT = "The quick brown fox jumps over the lazy dog, and then it"


def test_a_repeated_prompt_is_evaluated_whole_again(engine: LlmEngine) -> None:
    engine.generate(PROMPT)

    timeline = engine.generate(PROMPT).timeline

    assert timeline.prompt_tokens_evaluated == timeline.prompt_tokens
    assert timeline.prompt_tokens is not None
    assert timeline.prompt_tokens > 1


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
