"""The plugin's side of a worker process: starts it, sends it requests, explains its death."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar, cast

from pytest_llmperf.engine import wire
from pytest_llmperf.engine.descendants import MARK, Descendants
from pytest_llmperf.engine.ends import describe_end
from pytest_llmperf.engine.errors import (
    CRASH_TAIL,
    EngineError,
    EngineGoneError,
    EngineLoadError,
    with_log_tail,
)
from pytest_llmperf.engine.generation import Generation, received_generation
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.launch import LaunchSpec as LaunchSpec
from pytest_llmperf.engine.own_time import OWN_TIME
from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine.worker_environment import worker_environment
from pytest_llmperf.engine_kinds import EngineKind, EngineKindError
from pytest_llmperf.process_groups import (
    end_group,
    has_ended,
    signal_process,
    wait_until_ended,
)
from pytest_llmperf.units import format_duration

_LOG_LINES = 400
_HELLO_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 3.0
_JOIN_TIMEOUT_S = 1.0
_TRACE_WAIT_S = 1.5
_OUTERMOST = re.compile(r'bootstrap\.py", line \d+ in <module>').search

_Result = TypeVar("_Result")


class StreamToken(NamedTuple):
    """One token as it arrived: its text, its id (None from an app that yields text), seconds."""

    text: str
    id: int | None
    time: float


class TurnEnd(NamedTuple):
    """The engine waits for its next turn, with this many output tokens so far."""

    tokens: int


class EngineClient:
    """One life of an engine process: start it, send requests, close it.

    Not safe for use from two threads at once; LlmEngine adds the lock.
    """

    def __init__(self, spec: LaunchSpec) -> None:
        self._spec = spec
        self._number = 0
        self._exchanging = self._killed = self._refused = False
        self._ending = threading.Lock()
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)
        self._mark = uuid.uuid4().hex
        self._process = self._spawn()
        self._descendants = Descendants(self._process.pid, self._mark)
        self._threads = [
            threading.Thread(target=self._read_answers, daemon=True, name="llmperf-answers"),
            threading.Thread(target=self._read_log, daemon=True, name="llmperf-log"),
        ]
        for thread in self._threads:
            thread.start()
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
            raise EngineLoadError(f"{spec.name} can't be slowed on purpose: it takes no delay")
        client = cls(spec)
        try:
            client._greet()
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
        """Give the engine another spec's settings; False where they take a process of their own.

        Raises:
            EngineLoadError: it can't have them. The worker lives on, and may take others.
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
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the worker is still running."""
        return not has_ended(self._process)

    @property
    def log(self) -> list[str]:
        """The last lines the worker wrote to stderr."""
        return list(self._log)

    def request(self, request: Request) -> Generation:
        """Run one request and wait for its end.

        Raises:
            EngineError: the request can't be met; the worker lives on.
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

        Yields after each turn the number of output tokens so far.

        A turn is a batch of the prompt, the last one with the first token, or ``tokens`` of the
        output. The engine goes on when the generator does; to give up in between ends the worker.

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

    def reset(self) -> None:
        """Empty the engine's KV cache."""
        self._call({"op": "reset"}, self._spec.generation_timeout, doing="resetting")

    def modules(self, names: Iterable[str]) -> dict[str, str]:
        """Return the file of each of these modules that the worker has imported."""
        command = {"op": "modules", "names": sorted(names)}
        found = self._call(command, self._spec.generation_timeout, doing="naming its modules")
        return dict(found)

    def ask(self, command: dict[str, Any], doing: str) -> Any:
        """Run a command that scores text (``engine/scoring.py``) and return its result.

        Raises:
            EngineError, EngineGoneError: as ``request`` does.
        """
        limit = self._spec.generation_timeout
        return self._call(command, limit, doing=doing, setting="llm.generation_timeout")

    def close(self) -> None:
        """Let the worker release the device and end; kill it if it does not, or is at work."""
        if self.alive and not self._exchanging:
            with contextlib.suppress(EngineError, OSError):
                self._call({"op": "close"}, _CLOSE_TIMEOUT_S, doing="closing")
            wait_until_ended(self._process, _CLOSE_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the worker and its children at once; harmless if it has ended."""
        with self._ending:
            if self._killed:
                return
            self._killed = True
        if self._process.returncode is None:
            self._descendants.note()
        # The worker leads its own process group: an application's children end with it.
        end_group(self._process)
        # Processes that left the group would hold the pipes open.
        self._descendants.end()
        with contextlib.suppress(OSError):
            _open(self._process.stdin).close()
        for thread in self._threads:
            # Not for ever: a process that the application moved out of the group may hold the
            # other end of a pipe open. Each thread closes its own end when it finishes.
            thread.join(_JOIN_TIMEOUT_S)

    def _spawn(self) -> subprocess.Popen[bytes]:
        bootstrap = Path(__file__).with_name("bootstrap.py")
        try:
            return subprocess.Popen(
                [self._spec.python, "-u", str(bootstrap), *self._spec.import_paths],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._spec.cwd,
                env={**worker_environment(self._spec, os.environ), MARK: self._mark},
                # Out of the terminal's process group: Ctrl-C is the session's to handle.
                start_new_session=True,
            )
        except OSError as error:
            where = f" in {self._spec.cwd}" if self._spec.cwd else ""
            raise EngineLoadError(
                f"the engine's process ({self._spec.python}{where}) could not be started: {error}"
            ) from error

    def _read_answers(self) -> None:
        with _open(self._process.stdout) as pipe:
            for line in pipe:
                try:
                    self._answers.put(wire.decode_event(line))
                except ValueError:
                    self._log.append(f"not of the protocol: {line[:200]!r}")
        self._answers.put(None)

    def _read_log(self) -> None:
        with _open(self._process.stderr) as pipe:
            self._log.extend(line.decode("utf-8", "replace").rstrip("\n") for line in pipe)

    def _greet(self) -> None:
        hello = self._next(_HELLO_TIMEOUT_S, "starting", None)
        if hello.get("protocol") != wire.PROTOCOL_VERSION:
            raise EngineGoneError(
                f"the worker speaks protocol {hello.get('protocol')!r}, this plugin "
                f"{wire.PROTOCOL_VERSION}: install one version of pytest-llmperf in both places"
            )

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
        self._send({"id": number, **command}, doing)
        deadline = time.monotonic() + timeout
        abandoned, answered, self._exchanging = False, False, True
        try:
            while True:
                if abandoned and self._killed:
                    raise GeneratorExit
                answer = self._next(deadline - time.monotonic(), doing, setting, timeout)
                if answer.get("id") != number:
                    continue
                if answer["event"] == "turn":
                    paused = time.monotonic()
                    yield TurnEnd(answer["tokens"])
                    deadline += time.monotonic() - paused
                    self._send({"op": "go_on"}, doing)
                    continue
                answered = answer["event"] != "token"
                if answer["event"] == "done":
                    return finish(answer["result"])
                if answer["event"] == "error":
                    kind = EngineLoadError if answer["kind"] == "load" else EngineError
                    raise kind(answer["message"])
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

    def _send(self, command: dict[str, Any], doing: str) -> None:
        try:
            pipe = _open(self._process.stdin)
            pipe.write(wire.encode(command))
            pipe.flush()
        except (OSError, ValueError):
            raise self._gone(doing) from None

    def _next(
        self, timeout: float, doing: str, setting: str | None, limit: float | None = None
    ) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            raise self._hung(limit or timeout, doing, setting) from None
        if answer is None:
            raise self._gone(doing)
        return answer

    def _hung(self, limit: float, doing: str, setting: str | None) -> EngineGoneError:
        if hasattr(signal, "SIGUSR1"):
            # Make it print where it hangs, to stderr, outermost frame last.
            signal_process(self._process, signal.SIGUSR1)
            until = time.monotonic() + _TRACE_WAIT_S
            while time.monotonic() < until and not any(map(_OUTERMOST, self.log)):
                time.sleep(0.02)
        self.kill()
        hint = f"if this is no hang, raise {setting}" if setting else None
        waited = format_duration(limit)
        text = f"the engine's process gave no answer in {waited} while {doing} and was killed"
        return EngineGoneError(with_log_tail(text, self.log, hint, CRASH_TAIL))

    def _gone(self, doing: str) -> EngineGoneError:
        if self._killed:
            return EngineGoneError(f"the engine was closed while {doing}")
        ended = wait_until_ended(self._process, _CLOSE_TIMEOUT_S)
        self.kill()
        status = self._process.returncode if ended else None
        what, hint = describe_end(status)
        text = f"the engine's process {what} while {doing}"
        return EngineGoneError(with_log_tail(text, self.log, hint, CRASH_TAIL))


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


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
