"""The load generator: sends requests on a schedule and records the outcome of each."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from pytest_llmperf.engine.server.answer import OUTPUT_KINDS, Chunk, ServerAnswer, ServerRequest
from pytest_llmperf.engine.server.fault import ServerFault
from pytest_llmperf.engine.server.load_result import LoadResult, RequestOutcome
from pytest_llmperf.engine.server.schedule import Schedule

Ask = Callable[[ServerRequest], Awaitable[ServerAnswer]]

#: The event loop's timers are up to a millisecond late; the rest is spent in a busy wait.
_TIMER_S = 0.001
#: Seconds between two measurements of how late the event loop is.
_LOOK_S = 0.02


class LoadGenerator:
    """Sends requests on a schedule, all from one event loop.

    Args:
        ask: sends one request, ``ServerClient.ask``.
        requests: requests to send in turn, starting over when they are used up.
        schedule: when the requests are due.
        clock: the client's clock.
        numbers: numbers of the requests, in the order of the schedule; None: from 0 on.
    """

    def __init__(
        self,
        ask: Ask,
        requests: Sequence[ServerRequest],
        schedule: Schedule,
        clock: Callable[[], float] = time.perf_counter,
        numbers: Iterable[int] | None = None,
    ) -> None:
        if not requests and not all(schedule.traced or (None,)):
            raise ValueError("there are no requests to send")
        self._ask = ask
        self._requests = requests
        self._schedule = schedule
        self._clock = clock
        self._numbers = itertools.count() if numbers is None else iter(numbers)
        #: Seconds spent in busy waits, and this thread's CPU seconds in them.
        self._spun, self._spun_cpu = 0.0, 0.0
        self._outcomes: list[RequestOutcome] = []
        self._lags = array("d")

    async def run(self, begin: float | None = None) -> LoadResult:
        """Send all requests and wait until all of them have ended.

        A fault ends only its own request.

        Args:
            begin: time on the clock at which the load begins; None: now.
        """
        with quiet_gc():
            if begin is not None:
                await self._wait_until(begin)
            looking = asyncio.ensure_future(self._look_at_lag())
            self._spun, self._spun_cpu = 0.0, 0.0
            started, cpu = self._clock(), time.thread_time()
            try:
                begin = started if begin is None else begin
                if self._schedule.is_open:
                    await self._send_when_due(begin)
                else:
                    await self._keep_in_flight(begin)
            finally:
                looking.cancel()
                with suppress(asyncio.CancelledError):
                    await looking
            seconds = self._clock() - started - self._spun
            cpu = time.thread_time() - cpu - self._spun_cpu
        self._outcomes.sort(key=lambda outcome: outcome.number)
        end = max((outcome.ended for outcome in self._outcomes), default=begin)
        first = min((outcome.due for outcome in self._outcomes), default=begin)
        busy = cpu / seconds if seconds > 0 else 0.0
        return LoadResult(self._schedule, tuple(self._outcomes), (first, end), self._lags, busy)

    async def _send_when_due(self, begin: float) -> None:
        running: set[asyncio.Future[None]] = set()
        errors: list[BaseException] = []

        def ended(task: asyncio.Future[None]) -> None:
            running.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                errors.append(error)

        try:
            for number, after in zip(self._numbers, self._schedule.due, strict=False):
                due = begin + after
                await self._wait_until(due)
                task = asyncio.ensure_future(self._send(number, due))
                running.add(task)
                task.add_done_callback(ended)
                if errors:
                    break
            while running and not errors:
                await asyncio.wait(tuple(running), return_when=asyncio.FIRST_EXCEPTION)
            # Not faults of the server, but mistakes in a request or in this program.
            for error in errors:
                raise error
        finally:
            await _cancel(running)

    async def _wait_until(self, due: float) -> None:
        left = due - self._clock() - _TIMER_S
        if left > 0:
            await asyncio.sleep(left)
        began, cpu = self._clock(), time.thread_time()
        while self._clock() < due:
            await asyncio.sleep(0)
        self._spun += self._clock() - began
        self._spun_cpu += time.thread_time() - cpu

    async def _keep_in_flight(self, begin: float) -> None:
        schedule = self._schedule
        assert schedule.concurrency is not None
        numbers = itertools.islice(self._numbers, schedule.requests)
        end = None if schedule.duration is None else begin + schedule.duration

        async def one_after_the_other() -> None:
            for number in numbers:
                due = self._clock()
                if end is not None and due >= end:
                    return
                await self._send(number, due)

        workers = [
            asyncio.ensure_future(one_after_the_other()) for _ in range(schedule.concurrency)
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            await _cancel(workers)

    async def _send(self, number: int, due: float) -> None:
        request = self._request(number)
        asked = self._clock()
        try:
            answer = await self._ask(request)
        except ServerFault as fault:
            self._outcomes.append(_failed(number, due, asked, request, fault))
        else:
            self._outcomes.append(_answered(number, due, request, answer))

    def _request(self, number: int) -> ServerRequest:
        traced = self._schedule.traced
        entry = traced[number] if traced else None
        return entry if entry is not None else self._requests[number % len(self._requests)]

    async def _look_at_lag(self) -> None:
        while True:
            due = self._clock() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            self._lags.append(max(0.0, self._clock() - due))


async def _cancel(tasks: Iterable[asyncio.Future[None]]) -> None:
    left = tuple(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _answered(
    number: int, due: float, request: ServerRequest, answer: ServerAnswer
) -> RequestOutcome:
    output = answer.output_chunks
    return RequestOutcome(
        number,
        due,
        answer.asked,
        answer.sent,
        answer.finished,
        _times(output),
        answer.first_answer,
        output[0].tokens if output else None,
        answer.output_tokens,
        request.max_tokens,
        answer.prompt_tokens,
        answer.cached_tokens,
    )


def _failed(
    number: int, due: float, asked: float, request: ServerRequest, fault: ServerFault
) -> RequestOutcome:
    output = tuple(chunk for chunk in fault.chunks if chunk.kind in OUTPUT_KINDS)
    return RequestOutcome(
        number,
        due,
        asked,
        fault.sent,
        fault.at,
        _times(output),
        next((chunk.time for chunk in output if chunk.kind != "reasoning"), None),
        output[0].tokens if output else None,
        None,
        request.max_tokens,
        fault=fault.kind,
        message=str(fault),
    )


def _times(chunks: Sequence[Chunk]) -> array[float]:
    return array("d", (chunk.time for chunk in chunks))


@contextmanager
def quiet_gc(generation: int = 2) -> Iterator[None]:
    """Keep the garbage collector from scanning everything while times are read.

    Existing objects are ignored and only young objects are scanned, which takes microseconds
    and keeps memory bounded.

    Args:
        generation: oldest generation to collect beforehand: 2 takes tens of milliseconds, 1 is
            enough around single requests.
    """
    thresholds = gc.get_threshold()
    gc.collect(generation)
    gc.freeze()
    gc.set_threshold(thresholds[0], thresholds[1], 1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
