"""A relay that starts a server, makes its answers slower by a known share, and notes by how much.

    python benchmarks/slow_relay.py --port 8080 --share 6% -- llama-server --port {inner} -m m.gguf

Every byte passes as it is. The first chunk of a streamed answer passes at once; each chunk after
it is held until the time since the first one has grown by the share: the gaps are longer, the
first token is not. The server works on meanwhile, so only the rate of its answers changes. With
``--log``, a line per answer says how long its chunks took to arrive at the relay, and to leave
it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_llmperf.arguments import share

_READ = 2**16
#: Where a chunk of a stream begins, and where a stream ends. No JSON has such bytes in it.
_CHUNK, _END = b"\ndata: ", b"\r\n0\r\n\r\n"
_POLL_S = 0.05


class Pace:
    """Pace at which the chunks of one connection's answers are passed on.

    Args:
        share: by which the time between chunks grows, 0.06 = 6%.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)
        self._chunks = 0
        self._tail = b""

    def due(self, data: bytes, arrived: float) -> float:
        """Return when bytes that arrived at this time may be passed on."""
        if self._first is None:
            return arrived
        # Counted from when the first chunk left, which may have been late.
        return self._first[1] + (1.0 + self._share) * (arrived - self._first[0])

    def left(self, data: bytes, arrived: float, left: float) -> Mapping[str, Any] | None:
        """Note that bytes were passed on; return the record of the answer if they end it."""
        if _CHUNK in data:
            self._first = self._first or (arrived, left)
            self._last = (arrived, left)
            self._chunks += 1
        self._tail = (self._tail + data)[-len(_END) :]
        if self._first is None or self._tail != _END:
            return None
        done = {
            "share": self._share,
            "chunks": self._chunks,
            "arrived": self._last[0] - self._first[0],
            "left": self._last[1] - self._first[1],
        }
        self._first, self._chunks = None, 0
        return done


def true_slowdown(answers: Iterable[Mapping[str, Any]]) -> float | None:
    """Return how much longer answers took to leave than to arrive, as a share; None without any.

    Answers of one chunk are left out, because they have no gaps.
    """
    streamed = [answer for answer in answers if answer["chunks"] > 1]
    arrived = sum(answer["arrived"] for answer in streamed)
    return sum(answer["left"] for answer in streamed) / arrived - 1.0 if arrived else None


class _Connection:
    """A client's connection and the server's: bytes pass in both directions, paced in one."""

    def __init__(
        self, client: socket.socket, server: socket.socket, pace: Pace, note: Callable[[Any], None]
    ) -> None:
        self._client, self._server, self._pace, self._note = client, server, pace, note
        self._arrivals: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        for peer in (client, server):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for work in (self._to_server, self._from_server, self._to_client):
            threading.Thread(target=work, daemon=True).start()

    def _to_server(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(_READ):
                self._server.sendall(data)
        _shut(self._server)

    def _from_server(self) -> None:
        data = b"?"
        while data:
            try:
                data = self._server.recv(_READ)
            except OSError:
                data = b""
            self._arrivals.put((time.perf_counter(), data))

    def _to_client(self) -> None:
        with contextlib.suppress(OSError):
            while (arrival := self._arrivals.get())[1]:
                arrived, data = arrival
                wait = self._pace.due(data, arrived) - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                self._client.sendall(data)
                if (done := self._pace.left(data, arrived, time.perf_counter())) is not None:
                    self._note(done)
        _shut(self._client)
        for peer in (self._client, self._server):
            peer.close()


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


class Relay:
    """Relay that accepts connections and passes each on to a server.

    Args:
        port: to listen on; 0 takes a free port.
        target: the server's port.
        share: by which the time between chunks grows.
        note: called with the record of each answer.
    """

    def __init__(
        self, port: int, target: int, share: float, note: Callable[[Any], None] = lambda _: None
    ) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._target, self._share, self._note = target, share, note
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    # The server is not up yet.
                    client.close()
                    continue
                _Connection(client, server, Pace(self._share), self._note)

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Start the server and relay until it ends; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True, help="to listen at")
    parser.add_argument("--share", type=share, default=0.0, help="as 6%% (default: none)")
    parser.add_argument("--log", type=Path, help="append a line per answer here")
    parser.add_argument("command", nargs="+", help="of the server; {inner} is its port")
    arguments = parser.parse_args()
    inner = free_port()

    def note(done: Mapping[str, Any]) -> None:
        if arguments.log is not None:
            with arguments.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done) + "\n")

    relay = Relay(arguments.port, inner, arguments.share, note)
    words = [word.replace("{inner}", str(inner)) for word in arguments.command]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as server:
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        status = server.wait()
    relay.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
