"""The plugin's side of an engine: starts it in a worker process, and sends it requests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

from pytest_llmperf.engine.errors import EngineError, EngineGoneError, EngineLoadError
from pytest_llmperf.engine.generation import Generation, received_generation
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.launch import LaunchSpec as LaunchSpec
from pytest_llmperf.engine.own_time import OWN_TIME
from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine.server.counters import ServerCounters
from pytest_llmperf.engine.server.load_result import LoadResult
from pytest_llmperf.engine.server.schedule import Schedule
from pytest_llmperf.engine.worker_process import CLOSE_TIMEOUT_S, WorkerProcess
from pytest_llmperf.engine_kinds import EngineKind, EngineKindError
from pytest_llmperf.process_groups import wait_until_ended

_Result = TypeVar("_Result")
#: Longer than a server may take to report its counters.
_COUNTERS_TIMEOUT_S = 10.0
#: Errors that a worker reports, by their kind in the protocol.
_ERRORS = {"load": EngineLoadError, "gone": EngineGoneError}


class StreamToken(NamedTuple):
    """One token as it arrived: text, id (None from an app that yields text), time in seconds."""

    text: str
    id: int | None
    time: float


class TurnEnd(NamedTuple):
    """The end of an engine's turn, with the number of output tokens so far."""

    tokens: int


class EngineClient:
    """One life of an engine process: start it, send requests, close it.

    Not safe for use from two threads at once; LlmEngine adds the lock.
    """

    def __init__(self, spec: LaunchSpec) -> None:
        self._spec = spec
        self._number = 0
        self._exchanging = self._refused = False
        self._worker = WorkerProcess(spec)
        self.info: EngineInfo

    @classmethod
    def start(cls, spec: LaunchSpec) -> EngineClient:
        """Start a worker and load the engine in it.

        Raises:
            EngineLoadError: the engine or its model could not be loaded.
            EngineGoneError: the worker crashed or hung while loading.
        """
        try:
            kind = spec.kind
        except EngineKindError as error:
            raise EngineLoadError(str(error)) from None
        if spec.plant is not None and not kind.takes_delay:
            raise EngineLoadError(f"{spec.name} does not support planted slowdowns")
        client = cls(spec)
        try:
            client._worker.greet()
            result = client._call(
                spec.load_command(),
                spec.load_timeout,
                doing="loading the model",
                setting="llm.load_timeout",
            )
            client.info = spec.read_info(result)
        except BaseException:
            client.kill()
            raise
        return client

    def configure(self, spec: LaunchSpec) -> bool:
        """Give the engine another spec's settings; return False if they need a new process.

        Raises:
            EngineLoadError: the engine refused them. The worker stays alive and can take others.
            EngineGoneError: the worker crashed or hung meanwhile.
        """
        if not self.takes(spec):
            return False
        if not self.has_settings(spec):
            self._spec, self._refused = replace(self._spec, config=spec.config), True
            result = self._call(
                {"op": "configure", "config": spec.config},
                spec.load_timeout,
                doing="taking other settings",
                setting="llm.load_timeout",
            )
            self.info = self._spec.read_info(result)
            self._refused = False
        return True

    def takes(self, spec: LaunchSpec) -> bool:
        """Whether the engine can change to a spec's settings in this process."""
        return self._spec.shares_process_with(spec)

    def has_settings(self, spec: LaunchSpec) -> bool:
        """Whether the engine has a spec's settings, and did not refuse them."""
        return self._spec.config == spec.config and not self._refused

    @property
    def kind(self) -> EngineKind:
        """The kind of engine that the worker runs."""
        return self._spec.kind

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._worker.process.pid

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the engine on this machine; their child processes belong to it too."""
        return (self.pid,) if self.kind.computes_here else ()

    @property
    def alive(self) -> bool:
        """Whether the worker is still running."""
        return self._worker.alive

    @property
    def log(self) -> list[str]:
        """The last lines the worker wrote to stderr."""
        return self._worker.log

    def request(self, request: Request) -> Generation:
        """Run one request and wait for its end.

        Raises:
            EngineError: the request can't be met; the worker stays alive.
            EngineGoneError: the worker crashed, or passed its deadline and was killed.
        """
        return drain(self.stream(request))

    def stream(
        self, request: Request, observe: Callable[[Generation], None] | None = None
    ) -> Generator[StreamToken, None, Generation]:
        """Run one request; yield tokens if ``request.stream``, return the Generation.

        A caller that stops early waits, at ``close()``, for the engine to finish.
        ``observe`` gets the Generation in either case.

        Raises:
            EngineError, EngineGoneError: as ``request`` does.
        """

        exchange = self._generate({"request": request.to_wire()}, observe)
        return (yield from cast("Generator[StreamToken, None, Generation]", exchange))

    def in_turns(self, request: Request, tokens: int) -> Generator[int, None, Generation]:
        """Run one request turn by turn; return the Generation.

        Yields the number of output tokens so far after each turn.

        A turn is one batch of the prompt (the last batch includes the first token) or ``tokens``
        output tokens. The engine resumes when the generator does; closing it ends the worker.

        Raises:
            EngineError, EngineGoneError: as ``request`` does.
        """
        command = {"request": request.to_wire(), "turn": tokens}
        exchange = self._generate(command)
        try:
            while True:
                try:
                    if isinstance(item := next(exchange), TurnEnd):
                        yield item.tokens
                except StopIteration as end:
                    generation: Generation = end.value
                    return generation
        finally:
            exchange.close()

    def _generate(
        self, fields: dict[str, Any], observe: Callable[[Generation], None] | None = None
    ) -> Generator[StreamToken | TurnEnd, None, Generation]:
        began = OWN_TIME.now()

        def finish(result: dict[str, Any]) -> Generation:
            generation = received_generation(result, self._spec.name, OWN_TIME.now() - began)
            if observe is not None:
                observe(generation)
            return generation

        return (
            yield from self._exchange(
                {"op": "generate", **fields},
                self._spec.generation_timeout,
                finish,
                doing="generating",
                setting="llm.generation_timeout",
            )
        )

    def load(self, requests: Sequence[Request], schedule: Schedule) -> LoadResult:
        """Send requests on a schedule, several at a time, and return the outcome of each.

        Args:
            requests: sent in order, starting over after the last one.
            schedule: when they are due.

        Raises:
            EngineError: the engine answers one request at a time, or a request can't be made.
            EngineGoneError: the worker crashed, or passed its deadline and was killed.
        """
        if not self.kind.loads:
            raise EngineError(f"{self._spec.name} answers one request at a time")
        command = {
            "op": "send_load",
            "requests": [request.to_wire() for request in requests],
            "schedule": schedule.to_wire(),
        }
        limit = schedule.longest(self._spec.generation_timeout)
        setting = "llm.generation_timeout"
        result = self._call(command, limit, doing="answering a load", setting=setting)
        return LoadResult.from_wire(result, schedule)

    def counters(self) -> dict[str, ServerCounters | None]:
        """Return the servers' own counters, by address; empty if the engine is not a server.

        Raises:
            EngineGoneError: the worker crashed, or passed its deadline and was killed.
        """
        if not self.kind.counts:
            return {}
        raw = self._call({"op": "counters"}, _COUNTERS_TIMEOUT_S, doing="reading counters")
        return {url: None if data is None else ServerCounters(**data) for url, data in raw.items()}

    def reset(self) -> None:
        """Empty the engine's caches, if it can."""
        if not self.kind.resets:
            return
        self._call({"op": "reset"}, self._spec.generation_timeout, doing="resetting")

    def modules(self, names: Iterable[str]) -> dict[str, str]:
        """Return the file of each of these modules that the worker has imported."""
        command = {"op": "modules", "names": sorted(names)}
        files = self._call(command, self._spec.generation_timeout, doing="naming its modules")
        return dict(files)

    def ask(self, command: dict[str, Any], doing: str) -> Any:
        """Run a command that scores text (``engine/scoring.py``) and return its result.

        Raises:
            EngineError, EngineGoneError: as ``request`` does.
        """
        limit = self._spec.generation_timeout
        return self._call(command, limit, doing=doing, setting="llm.generation_timeout")

    def close(self) -> None:
        """Let the worker release the device and exit; kill it if it does not, or is busy."""
        if self.alive and not self._exchanging:
            with contextlib.suppress(EngineError, OSError):
                self._call({"op": "close"}, CLOSE_TIMEOUT_S, doing="closing")
            wait_until_ended(self._worker.process, CLOSE_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the worker and its children at once; harmless if it has ended."""
        self._worker.kill()

    def _call(
        self, command: dict[str, Any], timeout: float, *, doing: str, setting: str | None = None
    ) -> Any:
        return drain(self._exchange(command, timeout, _as_it_is, doing=doing, setting=setting))

    def _exchange(
        self,
        command: dict[str, Any],
        timeout: float,
        finish: Callable[[Any], _Result],
        *,
        doing: str,
        setting: str | None,
    ) -> Generator[StreamToken | TurnEnd, None, _Result]:
        """Send one command; yield its tokens, return what ``finish`` makes of its result."""
        if self._exchanging:
            raise EngineError("another request is running: read its stream to the end or close it")
        self._number += 1
        number = self._number
        self._worker.send({"id": number, **command}, doing)
        deadline = time.monotonic() + timeout
        abandoned, answered, self._exchanging = False, False, True
        try:
            while True:
                if abandoned and self._worker.killed:
                    raise GeneratorExit
                answer = self._worker.receive(deadline - time.monotonic(), doing, setting, timeout)
                if answer.get("id") != number:
                    continue
                if answer["event"] == "turn":
                    paused = time.monotonic()
                    yield TurnEnd(answer["tokens"])
                    deadline += time.monotonic() - paused
                    self._worker.send({"op": "go_on"}, doing)
                    continue
                answered = answer["event"] != "token"
                if answer["event"] == "done":
                    return finish(answer["result"])
                if answer["event"] == "error":
                    if answer["kind"] == "gone":
                        self.kill()
                    raise _ERRORS.get(answer["kind"], EngineError)(answer["message"])
                if not abandoned:
                    try:
                        yield StreamToken(answer["text"], answer["token"], answer["t"])
                    except GeneratorExit:
                        # The next command must not receive this one's tokens.
                        abandoned = True
        finally:
            self._exchanging = False
            if not answered:
                # Interrupted (Ctrl-C, a test's timeout): the engine is still working on an
                # answer that nobody will read.
                self.kill()


def drain(stream: Generator[object, None, _Result]) -> _Result:
    """Run a generator to its end and return its result."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            result: _Result = end.value
            return result


def _as_it_is(result: Any) -> Any:
    return result
