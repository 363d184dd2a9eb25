"""Workloads: a test's recorded requests and how they are sent, ready to be replayed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.request import SAMPLING_DEFAULTS, Request
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.load_pattern import IN_ORDER, LoadPattern
from pytest_llmperf.request_digest import MAX_REQUESTS, RequestDigest
from pytest_llmperf.stored_json import LEFT_OUT, Stored
from pytest_llmperf.text import count

_HASH_DIGITS = 16


@dataclass(frozen=True)
class RecordedRequest(Stored):
    """One request of a workload, and the amount of work that it took.

    Attributes:
        request: as the test made it.
        prompt_token_ids: the engine's tokens of the prompt; empty if unknown.
        prompt_tokens_evaluated: number of prompt tokens that the engine evaluated; None if unknown.
        output_tokens: number of output tokens.
    """

    request: Request
    prompt_token_ids: tuple[int, ...]
    prompt_tokens_evaluated: int | None
    output_tokens: int

    @classmethod
    def of(cls, request: Request, generation: Generation) -> RecordedRequest:
        """Record a finished request."""
        return cls(
            request,
            generation.prompt_token_ids,
            generation.timeline.prompt_tokens_evaluated,
            generation.output_tokens,
        )

    def replayed(self) -> Request:
        """Return a request that does the same work again.

        The number of output tokens is fixed to the recorded number, and nothing else
        may end the generation unless a grammar decides where it ends. An ``app``
        engine (which reports no prompt tokens) gets the original request.
        """
        if not self.prompt_token_ids:
            return self.request
        return replace(
            self.request,
            max_tokens=self.output_tokens,
            ignore_eos=self.request.grammar is None,
            stop=(),
        )

    def until_first_token(self) -> RecordedRequest:
        """Return a request with the same prompt that ends with the first token."""
        return replace(self, output_tokens=1, request=replace(self.request, max_tokens=1))

    @property
    def can_keep_prompt(self) -> bool:
        """Whether its decode may be replayed with the prompt already in the cache.

        Not if a grammar decides where the output ends: with a kept prompt its last token is
        evaluated by itself, and the different rounding may change the output.
        """
        whole = self.prompt_tokens_evaluated == len(self.prompt_token_ids) > 0
        return whole and self.request.cache == "clear" and self.request.grammar is None

    def with_kept_prompt(self) -> RecordedRequest:
        """Return a request that finds the whole prompt in the cache.

        An engine evaluates the prompt's last token again, to have something to sample from.
        """
        kept = replace(self.request, cache="keep")
        return replace(self, request=kept, prompt_tokens_evaluated=1)

    def work_difference(self, generation: Generation) -> FitnessFinding | None:
        """Find a difference from the recorded prompt or output tokens; None if they are equal."""
        came, recorded = generation.output_tokens, self.output_tokens
        if came != recorded:
            short = came < recorded
            text = f"{count(came, 'output token')} instead of {recorded}"
            if short:
                text = f"generation cut short: {came} of {recorded} output tokens"
            return _void(
                "cut_short" if short else "other_work",
                text,
                output_tokens=came,
                recorded_output_tokens=recorded,
            )
        if generation.prompt_token_ids != self.prompt_token_ids:
            pairs = zip(generation.prompt_token_ids, self.prompt_token_ids, strict=False)
            alike = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
            if alike is None:
                alike = min(len(generation.prompt_token_ids), len(self.prompt_token_ids))
            text = (
                f"the prompt's tokens differ from the recording's, from token {alike + 1} on "
                f"({len(generation.prompt_token_ids)} tokens instead of "
                f"{len(self.prompt_token_ids)})"
            )
            return _void(
                "other_work",
                text,
                prompt_tokens=len(generation.prompt_token_ids),
                recorded_prompt_tokens=len(self.prompt_token_ids),
            )
        return None

    def why_not_same_work(self, generation: Generation) -> FitnessFinding | None:
        """Find the reason why a replay did not do the same work; None if it did."""
        if other := self.work_difference(generation):
            return other
        if ended := self._ended_by_itself(generation):
            return ended
        evaluated = generation.timeline.prompt_tokens_evaluated
        recorded = self.prompt_tokens_evaluated
        if evaluated == recorded:
            return self._served_from_cache(generation)
        served = recorded is not None and evaluated is not None and evaluated < recorded
        cause = "prompt served from a cache" if served else "less of the prompt was cached"
        return _void(
            "prompt_cached" if served else "other_work",
            f"{cause}: {evaluated} of its tokens evaluated instead of {recorded}",
            evaluated=evaluated,
            recorded_evaluated=recorded,
        )

    def _ended_by_itself(self, generation: Generation) -> FitnessFinding | None:
        """Find an end of sequence that should have been ignored, so the length is not fixed."""
        came, wanted = generation.output_tokens, self.request.max_tokens
        is_open = not self.request.ignore_eos or wanted in (None, came)
        if is_open or generation.finish_reason != "eos":
            return None
        text = (
            f"generation cut short: the answer ended by itself after {came} of {wanted} output "
            "tokens, because the engine does not support ignore_eos; pass ignore_eos=False"
        )
        return _void("cut_short", text, output_tokens=came)

    def _served_from_cache(self, generation: Generation) -> FitnessFinding | None:
        """Find a prompt that came from a cache (in the recording, too) without being asked to."""
        prompt = generation.timeline.prompt_tokens
        evaluated = generation.timeline.prompt_tokens_evaluated
        if self.request.cache == "keep" or prompt is None or evaluated in (None, prompt):
            return None
        text = f"prompt served from a cache: {evaluated} of its {prompt} tokens evaluated"
        return _void("prompt_cached", text, evaluated=evaluated, prompt_tokens=prompt)

    def identity(self) -> dict[str, Any]:
        """Return everything that defines this request's work, as plain JSON types."""
        request = self.request
        prompt: Any = list(self.prompt_token_ids)
        if not prompt:
            prompt = request.prompt if request.messages is None else list(request.messages)
        sampling = {
            name: value
            for name, value in request.sampling.items()
            if value != SAMPLING_DEFAULTS[name]
        }
        return {
            "prompt": prompt,
            "evaluated": self.prompt_tokens_evaluated,
            "output_tokens": self.output_tokens,
            "cache": request.cache,
            "stream": request.stream,
            "grammar": request.grammar,
            "seed": request.seed,
            "sampling": sampling,
        }


def _void(name: str, text: str, **evidence: int | None) -> FitnessFinding:
    return FitnessFinding(name, "invalid", text, evidence)


@dataclass(frozen=True)
class Workload(Stored):
    """One or more recorded requests, and how they are sent.

    Attributes:
        requests: the recorded requests, in order.
        load: the pattern in which they are sent.
    """

    requests: tuple[RecordedRequest, ...]
    load: LoadPattern = field(default=IN_ORDER, metadata=LEFT_OUT)

    def unmeasurable(self) -> str | None:
        """Explain why its replays can't be timed; None if they can."""
        for number, recorded in enumerate(self.requests, 1):
            if recorded.output_tokens == 0:
                return (
                    f"request {number} of {len(self.requests)} produced no tokens (immediate end "
                    "of sequence), so there is nothing to time; remove ignore_eos=False, or "
                    "change the prompt"
                )
        return None

    @property
    def hash(self) -> str:
        """Hexadecimal digest of the work; only workloads with equal digests are comparable."""
        work: Any = [request.identity() for request in self.requests]
        if self.load != IN_ORDER:
            work = {"requests": work, "load": self.load.identity()}
        text = json.dumps(work, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]

    @cached_property
    def digests(self) -> tuple[RequestDigest, ...]:
        """Digests of the first ``MAX_REQUESTS`` requests, without their prompts."""
        first = self.requests[:MAX_REQUESTS]
        return tuple(RequestDigest.of(request.identity()) for request in first)

    @property
    def summary(self) -> str:
        """Readable description, for example ``2 requests, 72 tokens in, 96 out, streamed``."""
        tokens_in = [len(r.prompt_token_ids) for r in self.requests]
        parts = [count(len(self.requests), "request")]
        if all(tokens_in):
            parts.append(f"{count(sum(tokens_in), 'token')} in")
        parts.append(f"{sum(r.output_tokens for r in self.requests)} out")
        if any(r.request.cache == "keep" for r in self.requests):
            parts.append(f"cache kept{self._kept()}")
        if any(r.request.stream for r in self.requests):
            parts.append("streamed")
        if self.load.is_load:
            parts.append(f"under load: {self.load}")
        return ", ".join(parts)

    def _kept(self) -> str:
        """Describe how many prompt tokens were cached and evaluated; empty if unknown."""
        kept = evaluated = 0
        for recorded in self.requests:
            if recorded.prompt_tokens_evaluated is None or not recorded.prompt_token_ids:
                return ""
            evaluated += recorded.prompt_tokens_evaluated
            kept += len(recorded.prompt_token_ids) - recorded.prompt_tokens_evaluated
        return f" ({count(kept, 'token')}, {evaluated} evaluated)"


class Recorder:
    """Records the requests of one test to the engine while its body runs."""

    def __init__(self) -> None:
        self._requests: list[RecordedRequest] = []
        self.seconds = 0.0

    def __call__(self, request: Request, generation: Generation) -> None:
        """Record one finished request; called as the engine's observer."""
        self._requests.append(RecordedRequest.of(request, generation))
        timeline = generation.timeline
        if timeline.token_times:
            self.seconds += timeline.token_times[-1] - timeline.t_start

    def workload(self) -> Workload | None:
        """Return the recorded workload, or None if the test made no request."""
        requests: Sequence[RecordedRequest] = self._requests
        return Workload(tuple(requests)) if requests else None
