"""The engine's process: reads commands from stdin, answers with JSON lines, runs any Engine.

The real stdout is kept for the protocol alone; whatever an engine or an
application prints goes to stderr, which the plugin keeps as the engine's log.
"""

from __future__ import annotations

import faulthandler
import os
import platform
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, BinaryIO

from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.loaded_modules import loaded_modules
from pytest_llmperf.engine.orphan import die_with_parent, end_group
from pytest_llmperf.engine.planted import Delay, Plant
from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine.wire import PROTOCOL_VERSION, decode, encode

if TYPE_CHECKING:
    from pytest_llmperf.engine.base import Engine


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
        # The plugin sends this to a worker that hangs, to say in its report where.
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    die_with_parent()
    hello = {
        "event": "hello",
        "protocol": PROTOCOL_VERSION,
        "python": platform.python_version(),
        "pid": os.getpid(),
    }
    try:
        output.write(encode(hello))
        output.flush()
        if not _Worker(output).serve(commands):
            end_group()
    except BrokenPipeError:
        end_group()
    return 0


class _Worker:
    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._engine: Engine | None = None

    def serve(self, commands: BinaryIO) -> bool:
        """Answer commands; return whether the plugin said goodbye."""
        for line in commands:
            command = decode(line)
            number = command["id"]
            try:
                result = self._run(number, command)
            except EngineLoadError as error:
                self._send(number, "error", kind="load", message=str(error))
            except EngineError as error:
                self._send(number, "error", kind="request", message=str(error))
            except MemoryError:
                self._send(number, "error", kind="memory", message="out of memory (MemoryError)")
            except BrokenPipeError:
                raise
            except Exception:
                message = f"unexpected error in the engine:\n{traceback.format_exc()}"
                self._send(number, "error", kind="request", message=message)
            else:
                self._send(number, "done", result=result)
            if command["op"] == "close":
                return True
        return False

    def _run(self, number: int, command: dict[str, Any]) -> Any:
        operation = command["op"]
        if operation == "load":
            plant = command.get("plant")
            delay = Delay(Plant.from_wire(plant)) if plant is not None else None
            self._engine = load_engine(command["engine"], command["config"], delay)
            return self._engine.info()
        if operation == "modules":
            return loaded_modules(command["names"])
        if operation == "close":
            if self._engine is not None:
                self._engine.close()
            return None
        if self._engine is None:
            raise EngineError(f"{operation!r} before load")
        if operation == "reset":
            self._engine.reset()
            return None
        if operation == "generate":
            request = Request.from_wire(command["request"])

            def sink(token: int | None, text: str, at: float) -> None:
                self._send(number, "token", token=token, text=text, t=at)

            return self._engine.generate(request, sink if request.stream else None).to_wire()
        raise EngineError(f"unknown operation {operation!r}")

    def _send(self, number: int, event: str, **fields: Any) -> None:
        self._output.write(encode({"id": number, "event": event, **fields}))
        self._output.flush()


def load_engine(name: str, config: dict[str, Any], delay: Delay | None = None) -> Engine:
    """Build the engine called ``name``; its package is imported here and nowhere earlier.

    Raises:
        EngineLoadError: the engine is unknown, its package is missing, or it could not load.
    """
    try:
        if name == "llama_cpp":
            from pytest_llmperf.engine.llama_cpp import LlamaCppEngine

            return LlamaCppEngine(config, delay)
        if name == "app":
            from pytest_llmperf.engine.app import AppEngine

            return AppEngine(config, delay)
    except AttributeError as error:
        raise EngineLoadError(
            f"engine {name!r} in {sys.executable} lacks something this plugin needs ({error}); "
            "llama-cpp-python is too old or too new for it"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        from pytest_llmperf.engine.import_hint import import_hint

        hint = import_hint(str(error))
        raise EngineLoadError(
            f"engine {name!r} could not be imported in {sys.executable}: {error}"
            + (f"\nhint: {hint}" if hint else "")
        ) from error
    raise EngineLoadError(f"unknown engine {name!r}")
