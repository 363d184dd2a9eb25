"""A server that answers at once with chunks as servers send them, each in a write of its own.

It takes as little CPU time as a server can, so that the client is what is measured. Run as a
process, it prints its port, and ends when its standard input closes::

    .venv/bin/python benchmarks/null_server.py

An answer has as many chunks as its request asks for tokens: a single one comes at once, several
come one per ``TICK``. ``GET /count`` says how many requests were answered.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: A chunk of llama.cpp's server.
CHUNK = {
    "choices": [{"finish_reason": None, "index": 0, "delta": {"content": " token"}}],
    "created": 1764374400,
    "id": "chatcmpl-6oB1jTqfXlG8iEo1mVhBoyWmZ0a5Vwqm",
    "model": "smollm2-135m",
    "system_fingerprint": "b6900-0123456789",
    "object": "chat.completion.chunk",
}
END = {**CHUNK, "choices": [{"finish_reason": "length", "index": 0, "delta": {}}]}
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: keep-alive\r\n\r\n"
)
#: Seconds between the chunks of an answer.
TICK = 0.004
#: The list of models, for which other tools ask besides answers.
_MODELS = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()


def framed(*frames: str) -> bytes:
    """Return events of a stream as one HTTP chunk."""
    data = "".join(f"data: {frame}\n\n" for frame in frames).encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


class Answered:
    """Counter of the requests that were answered."""

    def __init__(self) -> None:
        self.number = 0


class Answering(asyncio.Protocol):
    """Connection that answers each request with as many chunks as it asks for tokens.

    Args:
        waiting: chunks that are still to be sent, by connection.
        answered: counts the requests.
    """

    def __init__(self, waiting: dict[Answering, int], answered: Answered) -> None:
        self._waiting = waiting
        self._answered = answered
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._waiting.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Take a request; a single chunk is answered at once."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and head.startswith(b"GET "):
            self._received = b""
            self._tell(head.split(b" ", 2)[1])
            return
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or -1)
        if len(body) != size:
            return
        self._received = b""
        asked = json.loads(body)
        chunks = asked.get("max_tokens") or asked["max_completion_tokens"]
        if chunks == 1:
            self.transport.write(HEAD + framed(json.dumps(CHUNK)))
            self.end()
        else:
            self.transport.write(HEAD)
            self._waiting[self] = chunks

    def end(self) -> None:
        """End the answer."""
        self._answered.number += 1
        self.transport.write(framed(json.dumps(END), "[DONE]") + b"0\r\n\r\n")

    def _tell(self, path: bytes) -> None:
        """Send the number of answers, or the list of models that tools ask for at their start."""
        body = b"%d" % self._answered.number if path == b"/count" else _MODELS
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )


async def serve() -> None:
    """Serve until the standard input closes; print the port."""
    waiting: dict[Answering, int] = {}
    answered = Answered()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Answering(waiting, answered), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = loop.run_in_executor(None, sys.stdin.read)
    chunk = framed(json.dumps(CHUNK))
    due = time.perf_counter()
    while not ended.done():
        due = max(due + TICK, time.perf_counter())
        await asyncio.sleep(due - time.perf_counter())
        for connection, left in list(waiting.items()):
            if left:
                connection.transport.write(chunk)
                waiting[connection] = left - 1
            else:
                del waiting[connection]
                connection.end()


@contextmanager
def null_server() -> Iterator[str]:
    """Run the server as a process; yield its address."""
    command = [sys.executable, str(Path(__file__).resolve())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.communicate()


def answered_by(url: str) -> int:
    """Return how many requests the null server at ``url`` has answered."""
    with urllib.request.urlopen(f"{url}/count", timeout=10) as response:
        return int(response.read())


if __name__ == "__main__":
    asyncio.run(serve())
