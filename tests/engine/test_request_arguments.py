from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.engine.request import Request, build_request
from pytest_llmperf.engine.wire import decode, encode


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ""}, "an empty prompt"),
        ({"prompt": []}, "an empty prompt"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens: expected an integer >= 1, got 0"),
        ({"prompt": "a", "cache": "off"}, "cache: expected 'clear' or 'keep', got 'off'"),
        ({"prompt": "a", "seed": "x"}, "seed: expected an integer"),
        ({"prompt": "a", "seed": -1}, "seed: expected an integer"),
        ({"prompt": "a", "mirostat_mode": 3}, "mirostat_mode: expected 0, 1 or 2"),
        ({"prompt": "a", "grammar": "x", "ignore_eos": True}, "ignore_eos=True with a grammar"),
    ],
)
def test_a_value_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_request(**{"max_tokens": 1, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": 3}, "expected text or a list of token ids"),
        ({"prompt": [1, -1]}, "token ids"),
        ({"prompt": "a", "temprature": 1}, "did you mean 'temperature'"),
        ({"prompt": "a", "max_token": 1}, "did you mean 'max_tokens'"),
        ({"prompt": "a", "top_k": "40"}, "top_k: expected a number"),
        ({"prompt": "a", "stop": [""]}, "stop: expected strings"),
        ({"prompt": "a", "grammar": 3}, "grammar: expected GBNF text"),
        ({"messages": "hello"}, "messages: expected a list"),
        ({"messages": [{"content": "no role"}]}, "messages: expected a list"),
    ],
)
def test_a_wrong_type_or_name_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        build_request(**{"max_tokens": 1, **options})


def test_the_order_of_sampling_parameters_makes_no_difference() -> None:
    first = build_request(prompt="a", max_tokens=1, top_k=1, top_p=0.5)
    second = build_request(prompt="a", max_tokens=1, top_p=0.5, top_k=1)

    assert list(first.sampling) == list(second.sampling)


def test_a_grammar_decides_the_end_by_itself() -> None:
    assert not build_request(prompt="a", max_tokens=1, grammar="root ::= [a]").ignore_eos


@pytest.mark.parametrize(
    "request_",
    [
        build_request(prompt=[1, 2, 3], max_tokens=4, stop="x", seed=1, top_k=3),
        build_request(messages=[{"role": "user", "content": "\ud800"}], max_tokens=None),
    ],
)
def test_a_request_survives_the_wire(request_: Request) -> None:
    assert Request.from_wire(decode(encode(request_.to_wire()))) == request_
