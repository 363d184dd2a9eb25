"""Digests tell in which request and from which token on two workloads differ; no prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.request import Request
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.request_digest import RequestDigest, StoredDigest, difference
from pytest_llmperf.stored_json import read
from pytest_llmperf.timeline import Timeline

Ask = Callable[..., Request]
#: The tokens of a long prompt.
LONG = tuple(range(7, 1007))


def asked(
    request: Request, prompt: tuple[int, ...] = LONG, tokens: int = 4, evaluated: int | None = None
) -> RecordedRequest:
    times = tuple(float(n) for n in range(1, tokens + 1))
    done = len(prompt) if evaluated is None and prompt else evaluated
    timeline = Timeline(0.0, times, len(prompt) or None, done, 0.0, 0.5)
    made = Generation("text", tuple(range(tokens)), prompt, timeline, "length", "clear")
    return RecordedRequest.of(request, made)


def digests(*requests: RecordedRequest) -> tuple[RequestDigest, ...]:
    return Workload(requests).digests


def stored_digest(row: Any) -> RequestDigest:
    kind: Any = StoredDigest
    digest: RequestDigest = read(kind, row)
    return digest


def stored(of: tuple[RequestDigest, ...]) -> tuple[RequestDigest, ...]:
    """Return the digests as they come back from a file."""
    return tuple(stored_digest(json.loads(json.dumps(digest.row()))) for digest in of)


def with_other(at: int, prompt: tuple[int, ...] = LONG) -> tuple[int, ...]:
    """Return a prompt whose tokens differ from token ``at`` on, counted from 1."""
    return tuple(token if n < at else token + 1 for n, token in enumerate(prompt, 1))


def test_the_request_and_the_token_are_named(ask: Ask) -> None:
    baseline = digests(asked(ask()), asked(ask()), asked(ask()))
    current = digests(asked(ask()), asked(ask(), with_other(618)), asked(ask(), with_other(2)))
    assert difference(baseline, current, "HEAD~1") == (
        "request 2 of 3 has another prompt, different from token 618 on (1000 tokens in both)"
    )


@pytest.mark.parametrize(("at", "token"), [(618, 609), (1, 1), (992, 977)])
def test_from_digests_it_is_told_within_a_few_tokens(ask: Ask, at: int, token: int) -> None:
    baseline, current = digests(asked(ask())), digests(asked(ask(), with_other(at)))
    assert difference(stored(baseline), current, "the baseline") == (
        f"the request has another prompt, different from about token {token} on "
        "(1000 tokens in both)"
    )


def test_prompts_of_other_lengths_are_compared_as_far_as_both_go(ask: Ask) -> None:
    baseline, current = digests(asked(ask(), LONG[:100])), digests(asked(ask(), with_other(50)))
    assert baseline[0].step < current[0].step
    said = difference(stored(baseline), current, "the baseline")
    assert "different from about token 49 on (1000 tokens, 100 tokens in the baseline)" in said
    longer = difference(stored(baseline), digests(asked(ask())), "the baseline")
    assert "different from about token 97 on" in longer


@pytest.mark.parametrize(
    ("options", "changes", "text"),
    [
        ({"seed": 7}, {}, "has seed 7, default in the baseline"),
        ({"temperature": 0.5}, {}, "has temperature 0.5, default in the baseline"),
        ({"cache": "keep"}, {}, "has cache keep, default in the baseline"),
        ({"stream": True}, {}, "has stream True, default in the baseline"),
        ({"grammar": "root ::= [a]"}, {}, "has another grammar"),
        ({}, {"tokens": 9}, "has 9 output tokens, 4 in the baseline"),
        ({}, {"evaluated": 3}, "has 3 of its prompt's tokens evaluated, 1000 in the baseline"),
    ],
)
def test_other_settings_and_other_sizes_are_named(
    ask: Ask, options: dict[str, Any], changes: dict[str, Any], text: str
) -> None:
    baseline, current = digests(asked(ask())), digests(asked(ask(**options), **changes))
    assert f"the request {text}" in difference(stored(baseline), stored(current), "the baseline")


def test_more_requests_than_before_are_counted(ask: Ask) -> None:
    request = asked(ask())
    assert difference(digests(request), digests(request, request), "the baseline") == (
        "2 requests, 1 in the baseline"
    )
    assert difference(digests(request), digests(request), "the baseline") == ""


def test_an_applications_prompt_is_told_by_characters(ask: Ask) -> None:
    baseline = digests(asked(ask(prompt="a secret question " * 4), (), evaluated=None))
    current = digests(asked(ask(prompt="a secret question " * 3 + "asked"), (), evaluated=None))
    assert "different from character 56 on (59 characters, 72 characters in" in difference(
        baseline, current, "the baseline"
    )
    assert "about character 49 on" in difference(stored(baseline), current, "the baseline")
    chat = ask(prompt=None, messages=[{"role": "user", "content": "a secret question"}])
    told = json.dumps([digest.row() for digest in (*baseline, *current, *digests(asked(chat, ())))])
    assert "secret" not in told


def test_a_digest_is_short_however_long_the_prompt(ask: Ask) -> None:
    (digest,) = digests(asked(ask(), tuple(range(32_000))))
    assert len(digest.marks) <= 64
    many = Workload((asked(ask(), (1, 2)),) * 200).digests
    assert len(many) == 64


@pytest.mark.parametrize("row", [[], "x", None, ["token", "9"], [*["token"], 1, 2, 3, 4, 5, 6, 7]])
def test_what_is_no_digest_is_refused(row: Any) -> None:
    with pytest.raises(ValueError, match="expected the digest of a request"):
        stored_digest(row)


def test_a_newer_versions_longer_digest_is_read(ask: Ask) -> None:
    (digest,) = digests(asked(ask()))
    assert stored_digest([*digest.row(), "more"]) == replace(digest, content=None)
