"""``cache="keep"`` on every kind of memory: the kept prefix is reused, and changes no token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_specs import small_spec
from tiny_architectures import WINDOW, tiny_gemma, tiny_jamba, tiny_lfm2, tiny_mamba
from tiny_models import tiny_llama

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.request import CacheMode, Request

#: Name -> how the model is made, whether it can go back to any earlier token, its settings.
KINDS: dict[str, tuple[Callable[[], Path], bool, dict[str, Any]]] = {
    "plain": (tiny_llama, True, {}),
    "window": (tiny_gemma, True, {"swa_full": False}),
    "whole window": (tiny_gemma, True, {"swa_full": True}),
    "recurrent": (tiny_mamba, False, {}),
    "hybrid": (tiny_jamba, False, {}),
    "convolutions": (tiny_lfm2, False, {}),
    "hybrid window": (lambda: tiny_lfm2(window=True), False, {"swa_full": False}),
}
PROMPT = [1, *range(70, 110)]
#: Longer than the 256 cells of the small window's cache.
LONG = [1, *(60 + 7 * n % 190 for n in range(420))]


class KeptConversation:
    """An engine of one of the kinds, asked with token ids."""

    def __init__(self, kind: str) -> None:
        make, self.goes_back, extra = KINDS[kind]
        spec = small_spec(make(), n_ctx=1024, n_batch=64, n_ubatch=64, extra=extra)
        self.client = EngineClient.start(spec)

    def ask(
        self, prompt: Sequence[int], cache: CacheMode = "keep", tokens: int = 12, **more: Any
    ) -> Generation:
        request = Request(prompt=tuple(prompt), max_tokens=tokens, cache=cache, **more)
        return self.client.request(request)

    def evaluates(self, prompt: Sequence[int]) -> int:
        """Return how many tokens a kept prompt evaluates; its output must match a fresh one's."""
        kept = self.ask(prompt)
        assert kept.token_ids == self.ask(prompt, "clear").token_ids
        assert kept.timeline.prompt_tokens_evaluated is not None
        return kept.timeline.prompt_tokens_evaluated


@pytest.fixture(scope="module", params=KINDS)
def talk(request: pytest.FixtureRequest) -> Iterator[KeptConversation]:
    made = KeptConversation(request.param)
    yield made
    made.client.close()


def test_a_conversation_goes_on_after_the_answer(talk: KeptConversation) -> None:
    first = talk.ask(PROMPT, "clear", tokens=6)
    # The last token of the answer was sampled and not evaluated.
    second = [*PROMPT, *first.token_ids, 80, 81]
    kept = talk.ask(second, tokens=5)
    assert kept.timeline.prompt_tokens_evaluated == 3
    third = [*second, *kept.token_ids, 82]
    assert talk.evaluates(third) == 2


def test_the_same_prompt_again_goes_back_by_a_token(talk: KeptConversation) -> None:
    talk.ask(PROMPT, "clear", tokens=6)
    assert talk.evaluates(PROMPT) == (1 if talk.goes_back else len(PROMPT))


def test_what_is_kept_is_the_common_beginning(talk: KeptConversation) -> None:
    talk.ask(PROMPT, "clear", tokens=6)
    other = [*PROMPT[:30], 200, 201, 202]
    assert talk.evaluates(other) == (3 if talk.goes_back else len(other))


def test_an_answer_that_ended_itself_is_gone_on_from(talk: KeptConversation) -> None:
    # Its last token was evaluated, to find out that it is the last.
    first = talk.ask(PROMPT, "clear", grammar='root ::= "abc"', ignore_eos=False)
    assert first.finish_reason == "eos"
    assert talk.evaluates([*PROMPT, *first.token_ids, 80]) == 2


def test_another_prompt_keeps_nothing(talk: KeptConversation) -> None:
    talk.ask(PROMPT, "clear")
    assert talk.evaluates([90, 91, 92]) == 3


@pytest.mark.parametrize("common", [100, 200, 400])
def test_positions_that_a_window_has_dropped_are_evaluated(
    talk: KeptConversation, common: int
) -> None:
    first = talk.ask(LONG, "clear", tokens=4)
    assert talk.ask([*LONG, *first.token_ids, 80]).timeline.prompt_tokens_evaluated == 2
    talk.ask(LONG, "clear", tokens=4)
    other = [*LONG[:common], 200, 201]
    evaluated = talk.evaluates(other)
    if not talk.goes_back:
        assert evaluated == len(other)
    elif common >= len(LONG) - WINDOW:
        assert evaluated == 2
    else:
        # llama.cpp decides how much of the prefix a window's cache still holds.
        assert evaluated in (2, len(other))


def test_a_window_drops_what_is_far_behind() -> None:
    talk = KeptConversation("window")
    talk.ask(LONG, "clear", tokens=4)
    other = [*LONG[:100], 200, 201]
    assert talk.evaluates(other) == len(other)
    talk.client.close()
