"""Digests of requests, which show where two requests differ without revealing their prompts.

A prompt is stored as its length, a digest of the whole, and marks. A mark stands after every few
tokens (or characters, if an engine reports no tokens): one hexadecimal digit of the digest of
everything before it. Prompts differ before their first different mark; as one mark in sixteen is
equal by chance, that position is approximate. One digit for four tokens holds far less than the
text, so marks do not reveal a prompt that the whole digest does not reveal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer

from pytest_llmperf.stored_json import Whole, expect, unexpected

#: Maximum number of requests of a workload with a digest.
MAX_REQUESTS = 64
#: Advice for tests whose work is never the same.
ADVICE = "a test must make the same requests every time: fix a random prompt or its seed"
_MAX_MARKS = 64
_STEPS = {"token": 4, "character": 16}
_DIGITS = 8


@dataclass(frozen=True)
class RequestDigest:
    """Digest of one request of a workload.

    Attributes:
        unit: unit of the prompt's size: ``token`` or ``character``.
        size: size of the prompt.
        evaluated: number of its tokens that the engine evaluated, or None if unknown.
        output_tokens: number of output tokens.
        prompt: digest of the whole prompt.
        step: number of units between two marks.
        marks: a hexadecimal digit for each step, see above.
        settings: cache, stream, seed, grammar (its digest) and sampling, without defaults.
        content: the prompt itself, in memory only; it is not stored.
    """

    unit: Literal["token", "character"]
    size: Whole
    evaluated: Whole | None
    output_tokens: Whole
    prompt: str
    step: Annotated[Whole, expect("a number above 0", lambda step: step > 0)]
    marks: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    content: Sequence[Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> RequestDigest:
        """Digest a request, given everything that defines its work."""
        asked = identity["prompt"]
        tokens = isinstance(asked, list) and bool(asked) and isinstance(asked[0], int)
        if not tokens and not isinstance(asked, str):
            asked = json.dumps(asked, sort_keys=True, ensure_ascii=False)
        unit: Literal["token", "character"] = "token" if tokens else "character"
        step = _STEPS[unit]
        while len(asked) // step > _MAX_MARKS:
            step *= 2
        whole, marks = hashlib.sha256(), ""
        for number, part in enumerate(asked, 1):
            whole.update(f"{part}\0".encode(errors="surrogatepass"))
            if number % step == 0:
                marks += whole.copy().hexdigest()[0]
        settings = {
            **({"cache": identity["cache"]} if identity["cache"] != "clear" else {}),
            **({"stream": True} if identity["stream"] else {}),
            **({"seed": identity["seed"]} if identity["seed"] is not None else {}),
            **identity["sampling"],
        }
        if identity["grammar"] is not None:
            digest = hashlib.sha256(identity["grammar"].encode(errors="surrogatepass"))
            settings["grammar"] = digest.hexdigest()[:_DIGITS]
        return cls(
            unit,
            len(asked),
            identity["evaluated"],
            identity["output_tokens"],
            whole.hexdigest()[:_DIGITS],
            step,
            marks,
            settings,
            asked,
        )

    def row(self) -> list[Any]:
        """Return a row of scalars, in the order of the attributes; settings are a JSON text."""
        settings = json.dumps(dict(self.settings), sort_keys=True)
        numbers = (self.size, self.evaluated, self.output_tokens)
        return [self.unit, *numbers, self.prompt, self.step, self.marks, settings]


def _of_row(row: Any) -> dict[str, Any]:
    """Convert a row to values by name; a newer version's row may be longer."""
    names = [item.name for item in fields(RequestDigest) if item.name != "content"]
    try:
        data = dict(zip(names, row[: len(names)], strict=True))
        data["settings"] = json.loads(data["settings"])
    except (TypeError, ValueError, LookupError):
        raise unexpected("the digest of a request", row) from None
    return data


#: A digest as files hold it: a row of scalars.
StoredDigest = Annotated[
    RequestDigest, BeforeValidator(_of_row), PlainSerializer(RequestDigest.row)
]


def difference(
    baseline: Sequence[RequestDigest], current: Sequence[RequestDigest], name: str
) -> str:
    """Describe how the first different request differs; empty if none is known to differ.

    ``name`` is the baseline's name for a reader. No prompt is shown.
    """
    total, other = len(current), len(baseline)
    pairs = zip(baseline[:MAX_REQUESTS], current[:MAX_REQUESTS], strict=False)
    for number, (a, b) in enumerate(pairs, 1):
        if a != b:
            which = f"request {number} of {total}" if total > 1 else "the request"
            return f"{which} {' and '.join(_differences(a, b, name))}"
    if min(total, MAX_REQUESTS) != min(other, MAX_REQUESTS):
        return f"{_count(total, 'request')}, {other} in {name}"
    return ""


def _differences(a: RequestDigest, b: RequestDigest, name: str) -> list[str]:
    changes = []
    other_prompt = (a.prompt, a.size, a.unit) != (b.prompt, b.size, b.unit)
    if other_prompt:
        changes.append(f"has another prompt{_where(a, b)} ({_sizes(a, b, name)})")
    elif a.evaluated != b.evaluated:
        changes.append(
            f"has {b.evaluated} of its prompt's tokens evaluated, {a.evaluated} in {name}: what is "
            "kept in the cache differs"
        )
    if a.output_tokens != b.output_tokens:
        changes.append(
            f"has {_count(b.output_tokens, 'output token')}, {a.output_tokens} in {name}"
        )
    for key in sorted({*a.settings, *b.settings}):
        old, new = a.settings.get(key, "default"), b.settings.get(key, "default")
        if old != new:
            shown = "another grammar" if key == "grammar" else f"{key} {new}, {old} in {name}"
            changes.append(f"has {shown}")
    return changes or [f"is other work than in {name}"]


def _where(a: RequestDigest, b: RequestDigest) -> str:
    """Describe the position from which two prompts differ."""
    if a.unit != b.unit:
        return ""
    if a.content is not None and b.content is not None:
        both = enumerate(zip(a.content, b.content, strict=False))
        alike = next((n for n, (x, y) in both if x != y), min(a.size, b.size))
        return f", different from {b.unit} {alike + 1} on"
    step = max(a.step, b.step)
    pairs = enumerate(zip(_marks_at(a, step), _marks_at(b, step), strict=False))
    alike = next((n for n, (x, y) in pairs if x != y), min(a.size, b.size) // step)
    return f", different from about {b.unit} {alike * step + 1} on"


def _marks_at(digest: RequestDigest, step: int) -> str:
    """Return the marks at a distance of ``step`` units."""
    stride = step // digest.step
    return digest.marks[stride - 1 :: stride]


def _sizes(a: RequestDigest, b: RequestDigest, name: str) -> str:
    if (a.size, a.unit) == (b.size, b.unit):
        return f"{_count(b.size, b.unit)} in both"
    return f"{_count(b.size, b.unit)}, {_count(a.size, a.unit)} in {name}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
