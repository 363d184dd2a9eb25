"""Starts a worker process, sends it commands, reads its answers, and explains its end."""

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
from pathlib import Path
from typing import IO, Any

from pytest_llmperf.engine import wire
from pytest_llmperf.engine.descendants import MARK, Descendants
from pytest_llmperf.engine.errors import CRASH_TAIL, EngineGoneError, EngineLoadError, with_log_tail
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.engine.process_end import describe_end
from pytest_llmperf.engine.worker_environment import worker_environment
from pytest_llmperf.process_groups import end_group, has_ended, signal_process, wait_until_ended
from pytest_llmperf.units import format_duration

_LOG_LINES = 400
_HELLO_TIMEOUT_S = 60.0
#: Seconds for a worker to end by itself.
CLOSE_TIMEOUT_S = 3.0
_JOIN_TIMEOUT_S = 1.0
_TRACE_WAIT_S = 1.5
_OUTERMOST = re.compile(r'bootstrap\.py", line \d+ in <module>').search


class WorkerProcess:
    """One worker process and its pipes: commands in, events and the engine's log out.

    Attributes:
        killed: whether ``kill`` has been called.

    Raises:
        EngineLoadError: it could not be started.
    """

    def __init__(self, spec: LaunchSpec) -> None:
        self._spec = spec
        self.killed = False
        self._ending = threading.Lock()
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)
        self._mark = uuid.uuid4().hex
        self.process = self._spawn()
        self._descendants = Descendants(self.process.pid, self._mark)
        self._threads = [
            threading.Thread(target=self._read_answers, daemon=True, name="llmperf-answers"),
            threading.Thread(target=self._read_log, daemon=True, name="llmperf-log"),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether it is still running."""
        return not has_ended(self.process)

    @property
    def log(self) -> list[str]:
        """The last lines it wrote to stderr."""
        return list(self._log)

    def greet(self) -> None:
        """Wait for its first event.

        Raises:
            EngineGoneError: it has ended, or sent no event in time.
        """
        self.receive(_HELLO_TIMEOUT_S, "starting", None)

    def send(self, command: dict[str, Any], doing: str) -> None:
        """Send a command.

        Raises:
            EngineGoneError: it has ended; the message says while ``doing`` what.
        """
        try:
            pipe = _open(self.process.stdin)
            pipe.write(wire.encode(command))
            pipe.flush()
        except (OSError, ValueError):
            raise self._gone(doing) from None

    def receive(
        self, timeout: float, doing: str, setting: str | None, limit: float | None = None
    ) -> dict[str, Any]:
        """Return its next event.

        Args:
            timeout: seconds to wait.
            doing: what it does meanwhile, for messages.
            setting: name of the setting that limits the time.
            limit: the whole time limit, of which ``timeout`` is left.

        Raises:
            EngineGoneError: it has ended, or sent no event in time and was killed.
        """
        try:
            answer = self._answers.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            raise self._hung(limit or timeout, doing, setting) from None
        if answer is None:
            raise self._gone(doing)
        return answer

    def kill(self) -> None:
        """End it and its children at once; harmless if it has ended."""
        with self._ending:
            if self.killed:
                return
            self.killed = True
        if self.process.returncode is None:
            self._descendants.note()
        # The worker leads its own process group: an application's children end with it.
        end_group(self.process)
        # Processes that left the group would hold the pipes open.
        self._descendants.end()
        with contextlib.suppress(OSError):
            _open(self.process.stdin).close()
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
        with _open(self.process.stdout) as pipe:
            for line in pipe:
                try:
                    self._answers.put(wire.decode_event(line))
                except ValueError:
                    self._log.append(f"unexpected output on the protocol's pipe: {line[:200]!r}")
        self._answers.put(None)

    def _read_log(self) -> None:
        with _open(self.process.stderr) as pipe:
            self._log.extend(line.decode("utf-8", "replace").rstrip("\n") for line in pipe)

    def _hung(self, limit: float, doing: str, setting: str | None) -> EngineGoneError:
        if hasattr(signal, "SIGUSR1"):
            # Make it print where it hangs, to stderr, outermost frame last.
            signal_process(self.process, signal.SIGUSR1)
            until = time.monotonic() + _TRACE_WAIT_S
            while time.monotonic() < until and not any(map(_OUTERMOST, self.log)):
                time.sleep(0.02)
        self.kill()
        hint = f"if this is not a hang, raise {setting}" if setting else None
        waited = format_duration(limit)
        text = f"the engine's process gave no answer in {waited} while {doing} and was killed"
        return EngineGoneError(with_log_tail(text, self.log, hint, CRASH_TAIL))

    def _gone(self, doing: str) -> EngineGoneError:
        if self.killed:
            return EngineGoneError(f"the engine was closed while {doing}")
        ended = wait_until_ended(self.process, CLOSE_TIMEOUT_S)
        self.kill()
        status = self.process.returncode if ended else None
        what, hint = describe_end(status)
        text = f"the engine's process {what} while {doing}"
        return EngineGoneError(with_log_tail(text, self.log, hint, CRASH_TAIL))


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
