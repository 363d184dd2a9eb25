"""This repository's own perf tests; their targets are in config.yaml, their baselines committed."""

import pytest

QUESTION = "Explain in one paragraph why a small language model can run on a laptop."

#: About 400 tokens: long enough that prefill, not decode, is what a reader waits for.
REPORT = " ".join(
    f"On day {day} the pump in hall {day % 5} ran for {day * 3 % 24} hours, used {day * 7 % 90} "
    "litres of water and was checked by the night shift."
    for day in range(1, 13)
)


@pytest.mark.perf
def test_short_answer(llm_engine):
    answer = llm_engine.generate(QUESTION, max_tokens=64)
    assert answer.output_tokens == 64


@pytest.mark.perf
def test_long_prompt(llm_engine):
    answer = llm_engine.generate(f"{REPORT}\n\nIn short:", max_tokens=24)
    assert answer.timeline.prompt_tokens > 300


@pytest.mark.perf
def test_many_short_requests(llm_engine):
    for city in ("Paris", "Lima", "Oslo", "Cairo", "Delhi", "Quito"):
        reply = llm_engine.chat(
            [{"role": "user", "content": f"In which country is {city}?"}], max_tokens=12
        )
        assert reply.text
