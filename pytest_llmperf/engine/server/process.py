"""A server started as a child of the engine process: its port, its output, its end."""

from __future__ import annotations

import collections
import os
import shlex
import socket
import subprocess
import sys
import threading
from typing import IO

from pytest_llmperf.engine.errors import EngineLoadError, with_log_tail
from pytest_llmperf.engine.process_end import describe_end

_LOG_LINES = 40
#: Seconds for the server to end by itself; the engine process has little longer to do so.
_END_S = 1.5


class ServerProcess:
    """A running server.

    It stays in the process group of this process, so that it is watched and ended with it. Its
    output goes to the engine's log.

    Args:
        command: the command in ``llm.start``.

    Attributes:
        url: address of the server.

    Raises:
        EngineLoadError: the command can't be run.
    """

    def __init__(self, command: str) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        words = [
            word.replace("{port}", str(port)).replace("{python}", sys.executable)
            for word in shlex.split(command)
        ]
        self._last_lines: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise EngineLoadError(
                f"llm.start: {words[0]!r} can't be run ({error.strerror or error}); install it, or "
                "give its path"
            ) from None
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._copy, args=(self._process.stdout,), name="llmperf-server-log", daemon=True
        )
        self._reader.start()

    def describe_end_if_ended(self, within: float = 0.0) -> str:
        """Describe how the server ended, with its last lines; empty while it runs.

        ``within``: seconds to wait for its end: a killed process closes its connections before
        its last thread is gone.
        """
        try:
            status = self._process.wait(within)
        except subprocess.TimeoutExpired:
            return ""
        self._reader.join(1.0)
        what, _ = describe_end(status)
        return self.with_last_lines(f"the server that llm.start started {what}")

    def with_last_lines(self, text: str) -> str:
        """Append the server's last lines of output to a message."""
        return with_log_tail(text, list(self._last_lines))

    def stop(self) -> None:
        """Ask the server to end; kill it if it does not."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _copy(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self._last_lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                os.write(2, line)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
