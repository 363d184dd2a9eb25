"""A small workload to measure without a test, sized to fit the time budget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

from pytest_llmperf.diagnosis.situation import WorkloadSize
from pytest_llmperf.engine.request import Request
from pytest_llmperf.measure.workload import RecordedRequest, Workload

if TYPE_CHECKING:
    from pytest_llmperf.engine.client import EngineClient
    from pytest_llmperf.engine.generation import Generation

#: Name of the workload, in place of a node id.
NAME = "doctor"
#: Default sizes: an ordinary question with some context, a short answer.
PROMPT_TOKENS, OUTPUT_TOKENS = 512, 64
#: Minimum sizes: these few tokens still show where time goes.
_MIN_PROMPT, _MIN_OUTPUT = 32, 8
#: Output tokens of the first request, which is only timed.
_LOOK_TOKENS = 4
_TEXT = "A model reads its prompt once, all tokens together, and then writes one after the other."


@dataclass(frozen=True)
class Sizes:
    """Requested sizes of the workload; None for the default.

    Attributes:
        prompt_tokens, max_tokens: sizes of its request.
        at_once: requests at once in the short load of a server.
    """

    prompt_tokens: int | None = None
    max_tokens: int | None = None
    at_once: int | None = None

    @property
    def asked(self) -> bool:
        """Whether the user asked for any size."""
        return self.prompt_tokens is not None


@dataclass(frozen=True)
class Probe:
    """A workload that was run once.

    Attributes:
        workload: the workload to replay.
        size: its size in tokens.
        seconds: its duration.
        shortened: whether it is smaller than usual, to fit the time budget.
    """

    workload: Workload
    size: WorkloadSize
    seconds: float
    shortened: bool = False


def probe(client: EngineClient, sizes: Sizes, seconds: float) -> Probe:
    """Run a workload of these sizes, or of sizes that take about ``seconds`` at most.

    Raises:
        EngineError: the engine refused it or failed, for example for lack of context.
    """
    if not client.kind.takes_token_ids:
        return _by_text(client, sizes)
    look = Request(prompt=_TEXT, max_tokens=_LOOK_TOKENS)
    first = client.request(look)
    n_ctx = client.info.n_ctx
    output = sizes.max_tokens or max(1, min(OUTPUT_TOKENS, n_ctx // 4))
    prompt = sizes.prompt_tokens or max(1, min(PROMPT_TOKENS, n_ctx - output))
    expected = _seconds(first, prompt, output)
    if expected > seconds:
        # The first request may load GPU kernels, or the model from the disk.
        client.reset()
        first = client.request(look)
        expected = _seconds(first, prompt, output)
    shortened = False
    while expected > seconds:
        smaller = (
            prompt if sizes.prompt_tokens else max(_MIN_PROMPT, prompt // 2),
            output if sizes.max_tokens else max(_MIN_OUTPUT, output // 2),
        )
        if smaller[0] >= prompt and smaller[1] >= output:
            break
        prompt, output = min(smaller[0], prompt), min(smaller[1], output)
        expected, shortened = _seconds(first, prompt, output), True
    request = Request(prompt=_of_length(first.prompt_token_ids, prompt), max_tokens=output)
    return _record(
        client, request, WorkloadSize(prompt, output, prompt + output, sizes.asked), shortened
    )


def _by_text(client: EngineClient, sizes: Sizes) -> Probe:
    """Probe an engine that takes text only and reports no prompt tokens, such as an application."""
    words = _TEXT.split()
    # Four tokens of English are about three words.
    count = (sizes.prompt_tokens or len(words)) * 3 // 4
    text = " ".join(islice(cycle(words), max(1, count)))
    request = Request(prompt=text, max_tokens=sizes.max_tokens or OUTPUT_TOKENS)
    return _record(
        client, request, WorkloadSize(0, sizes.max_tokens or OUTPUT_TOKENS, 0, sizes.asked)
    )


def _record(
    client: EngineClient, request: Request, size: WorkloadSize, shortened: bool = False
) -> Probe:
    client.reset()
    began = time.monotonic()
    generation = client.request(request)
    took = time.monotonic() - began
    return Probe(Workload((RecordedRequest.of(request, generation),)), size, took, shortened)


def _seconds(first: Generation, prompt: int, output: int) -> float:
    """Estimate the seconds of a workload from a first request with an empty cache."""
    metrics = first.metrics
    prefill = metrics.get("prefill_tokens_per_sec")
    decode = metrics.get("tokens_per_sec")
    return (prompt / prefill if prefill else 0.0) + (output / decode if decode else 0.0)


def _of_length(ids: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return ``count`` token ids: the text repeated, its start tokens only once."""
    return (ids[0], *islice(cycle(ids[1:] or ids), max(0, count - 1)))
