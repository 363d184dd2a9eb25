"""The engine's process: reads commands from stdin, answers with JSON lines, runs any Engine.

The real stdout is kept for the protocol alone; whatever an engine or an
application prints goes to stderr, which the plugin keeps as the engine's log.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from pytest_llmperf.engine.descendants import adopt_orphans, end_those_outside_group
from pytest_llmperf.engine.engine_faults import (
    check_generation,
    checked_info,
    describe_fault,
    import_fault,
    is_of_imports,
)
from pytest_llmperf.engine.errors import EngineError, EngineGoneError, EngineLoadError
from pytest_llmperf.engine.instruments import InstrumentWatch
from pytest_llmperf.engine.loaded_modules import loaded_modules
from pytest_llmperf.engine.orphan import die_with_parent, end_unreachable
from pytest_llmperf.engine.planted import Delay, Plant
from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine.scoring import SCORING, answer_scoring
from pytest_llmperf.engine.turn_pauses import TurnPauses
from pytest_llmperf.engine.wire import decode, encode

if TYPE_CHECKING:
    from pytest_llmperf.engine.base import Engine, TokenSink
    from pytest_llmperf.engine.generation import Generation


def main() -> int:
    """Serve commands until ``close`` or the end of stdin."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # An application, or a process it starts, must not read the protocol's pipe by accident.
    commands = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    faulthandler.enable()
    if hasattr(signal, "SIGUSR1"):
        # The plugin sends this to a hanging worker, to report where it hangs.
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    die_with_parent()
    adopt_orphans()
    # The handler registered first runs last, after the application's own.
    atexit.register(end_those_outside_group, os.getpid())
    _Worker(output, commands).serve()
    return 0


class _Worker:
    def __init__(self, output: BinaryIO, commands: BinaryIO) -> None:
        self._output = output
        self._commands = commands
        self._engine: Engine | None = None
        self._delay: Delay | None = None
        self._name = ""
        self._is_ready = False
        self._instruments = InstrumentWatch()
        self._recursion = sys.getrecursionlimit()
        self._is_fork = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def serve(self) -> None:
        """Send the hello event, then answer commands until ``close``."""
        self._write(encode({"event": "hello"}))
        for line in self._commands:
            command = decode(line)
            self._write(self._answer(command))
            if command["op"] == "close":
                return
        if self._is_fork:
            self._end_fork()
        end_unreachable()

    def _answer(self, command: dict[str, Any]) -> bytes:
        number = command["id"]
        try:
            return _event(number, "done", result=self._run(number, command))
        except EngineLoadError as error:
            return _event(number, "error", kind="load", message=str(error))
        except EngineGoneError as error:
            return _event(number, "error", kind="gone", message=str(error))
        except EngineError as error:
            return _event(number, "error", kind="request", message=str(error))
        except MemoryError:
            return _event(number, "error", kind="memory", message="out of memory (MemoryError)")
        except SystemExit:
            # The exit status says little; the log shows where it came from.
            _log(traceback.format_exc())
            raise
        except Exception as error:
            message = describe_fault(error, self._name, command["op"])
            kind = "load" if command["op"] in ("load", "configure") else "request"
            return _event(number, "error", kind=kind, message=message)

    def _run(self, number: int, command: dict[str, Any]) -> Any:
        operation = command["op"]
        if operation == "load":
            self._name = command["engine"]
            if command.get("plant") is not None:
                self._delay = Delay(Plant.from_wire(command["plant"]))
            self._engine = load_engine(command, self._instruments.glance, self._delay)
            self._is_ready = True
            return checked_info(self._engine.info(), self._name)
        if operation == "modules":
            return loaded_modules(command["names"])
        if operation == "close":
            if self._engine is not None:
                self._engine.close()
            return None
        if self._engine is None:
            raise EngineError(f"{operation!r} before load")
        if operation == "configure":
            return self._configure(self._engine, command["config"])
        if not self._is_ready:
            raise EngineError(f"{operation!r} after settings that the engine refused")
        if operation == "reset":
            self._engine.reset()
            return None
        if operation == "send_load":
            requests = [Request.from_wire(data) for data in command["requests"]]
            loading: Any = self._engine
            return loading.load(requests, command["schedule"]).to_wire()
        if operation == "counters":
            counting: Any = self._engine
            return counting.counters()
        if operation in SCORING:
            return answer_scoring(self._engine, command)
        if operation == "generate":
            request, turn = Request.from_wire(command["request"]), command.get("turn")
            pauses = None if turn is None else TurnPauses(turn, partial(self._wait, number))

            def sink(token: int | None, text: str, at: float) -> None:
                self._keep_recursion()
                self._write(_event(number, "token", token=token, text=text, t=at))

            return self._generate(request, sink if request.stream else None, pauses).to_wire()
        raise EngineError(f"unknown operation {operation!r}")

    def _configure(self, engine: Any, config: dict[str, Any]) -> dict[str, Any]:
        self._is_ready = False
        engine.configure(config)
        self._is_ready = True
        return checked_info(engine.info(), self._name)

    def _generate(
        self, request: Request, sink: TokenSink | None, pauses: TurnPauses | None
    ) -> Generation:
        engine: Any = self._engine
        try:
            if pauses is None:
                generation: Generation = engine.generate(request, sink)
            else:
                generation = engine.generate(request, sink, pauses.after)
        finally:
            self._keep_recursion()
        check_generation(generation, request, self._name)
        timeline = generation.timeline
        if pauses is not None:
            timeline = replace(timeline, pauses=tuple(pauses.taken))
        return replace(
            generation, timeline=timeline, instruments=tuple(self._instruments.take_seen())
        )

    def _wait(self, number: int, tokens: int) -> None:
        """Report the end of a turn, and wait for the next one."""
        self._write(_event(number, "turn", tokens=tokens))
        if self._delay is not None:
            self._delay.at_end_of_turn()
        line = self._commands.readline()
        if not line:
            end_unreachable()
        if (operation := decode(line)["op"]) != "go_on":
            raise EngineError(f"{operation!r} while a generation waits for its turn")

    def _keep_recursion(self) -> None:
        """Restore the recursion limit that an application lowered, for the engine's own calls."""
        if sys.getrecursionlimit() < self._recursion:
            sys.setrecursionlimit(self._recursion)

    def _write(self, line: bytes) -> None:
        if self._is_fork:
            self._end_fork()
        try:
            self._output.write(line)
            self._output.flush()
        except OSError:
            end_unreachable()

    def _forked(self) -> None:
        """Close the protocol's pipes in a process that the application forked.

        While the fork held them open, the plugin would not notice the end of this process.
        """
        self._is_fork = True
        null = os.open(os.devnull, os.O_RDWR)
        for pipe in (self._output, self._commands):
            os.dup2(null, pipe.fileno(), inheritable=False)
        os.close(null)

    def _end_fork(self) -> NoReturn:
        _log("a process forked by the application returned into the engine and was stopped\n")
        os._exit(0)


def _event(number: int, event: str, **fields: Any) -> bytes:
    return encode({"id": number, "event": event, **fields})


def _log(text: str) -> None:
    """Write to the engine's log, wherever the application has put ``sys.stderr``."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode("utf-8", "replace"))


def load_engine(
    command: dict[str, Any], glance: Callable[[], None], delay: Delay | None = None
) -> Engine:
    """Build the engine of a ``load`` command; its package is imported here and nowhere earlier.

    ``glance``: called while an application answers, to look for instruments at that moment.
    ``delay``: a planted slowdown.

    Raises:
        EngineLoadError: its package is missing or of another version, or it could not load.
    """
    module, _, attribute = command["class"].partition(":")
    given: dict[str, Any] = {}
    if delay is not None:
        given["delay"] = delay
    if command["glance"]:
        given["glance"] = glance
    try:
        build: Any = importlib.import_module(module)
        for part in attribute.split("."):
            build = getattr(build, part)
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        raise import_fault(error, command) from error
    try:
        engine: Engine = build(command["config"], **given)
    except (AttributeError, ImportError) as error:
        if is_of_imports(error, command):
            raise import_fault(error, command) from error
        raise
    return engine
