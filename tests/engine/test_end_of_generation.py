from __future__ import annotations

from pytest_llmperf.engine.handle import LlmEngine

# With greedy sampling, the model ends its answer to this after a few tokens.
SHORT = [{"role": "user", "content": "Reply with the single word: yes"}]


def test_end_of_sequence_is_honoured_when_asked(engine: LlmEngine) -> None:
    generation = engine.chat(SHORT, max_tokens=60, ignore_eos=False)

    assert generation.finish_reason in ("eos", "stop")
    assert generation.output_tokens < 60


def test_end_of_sequence_is_ignored_by_default(engine: LlmEngine) -> None:
    ends_at = engine.chat(SHORT, max_tokens=60, ignore_eos=False).output_tokens

    generation = engine.chat(SHORT, max_tokens=ends_at + 3)

    assert generation.output_tokens == ends_at + 3
    assert generation.finish_reason == "length"
    end_of_sequence = engine.generate("<|im_end|>", max_tokens=1).prompt_token_ids[-1]
    assert end_of_sequence not in generation.token_ids


def test_the_end_of_sequence_token_is_not_an_output_token(engine: LlmEngine) -> None:
    honoured = engine.chat(SHORT, max_tokens=60, ignore_eos=False)

    fixed = engine.chat(SHORT, max_tokens=honoured.output_tokens)

    assert fixed.token_ids == honoured.token_ids


def test_a_stop_string_ends_the_generation_and_is_cut_off(engine: LlmEngine) -> None:
    whole = engine.generate("The capital of France is", max_tokens=12)
    stop = whole.text[10:14]

    stopped = engine.generate("The capital of France is", max_tokens=12, stop=[stop, "never there"])

    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert stopped.token_ids == whole.token_ids[: stopped.output_tokens]


def test_a_stop_string_across_two_tokens_is_found(engine: LlmEngine) -> None:
    whole = engine.generate("The capital of France is", max_tokens=8)
    pieces = [token.text for token in engine.stream("The capital of France is", max_tokens=8)]
    stop = pieces[2][-1] + pieces[3][:1]
    first = next(count for count in range(1, 9) if stop in "".join(pieces[:count]))

    stopped = engine.generate("The capital of France is", max_tokens=8, stop=stop)

    assert stopped.output_tokens == first
    assert stopped.text == whole.text[: whole.text.index(stop)]
