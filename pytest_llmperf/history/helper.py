"""A second process that takes half of the work, where there is a second CPU and work enough.

It is asked over its standard input and answers on its standard output: a line of
JSON with the length of what follows, then so many bytes. Whatever goes wrong with
it, the work is done here instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from pytest_llmperf.history.change_points import ChangePoint
    from pytest_llmperf.history.series import Series
    from pytest_llmperf.history.sessions import Sessions

#: Records from which on a second process is worth its start.
WORTHWHILE = 600
_ENVIRONMENT = {
    # It multiplies no matrices: threads that wait for some would only cost memory.
    "OPENBLAS_NUM_THREADS": "1",
    # One record after another: glibc would give their memory back, and ask for it again, each time.
    "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
}
# With -c and this in front, a module of the user's current folder is never taken for ours.
_START = (
    "import sys; sys.path[:] = [sys.argv[1], *filter(None, sys.path)]; "
    "from pytest_llmperf.history.worker import main; sys.exit(main())"
)


class Helper:
    """The second process; used in a ``with`` statement, which ends it.

    ``cpus``: how many may be used; with one there is no second process.
    """

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Helper:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, work: int) -> None:
        """Start the process, if so much work (records, or values / 100) is worth it."""
        if self._process is not None or work < WORTHWHILE or self._cpus < 2:
            return
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(Path(__file__).parents[2])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
            )
        except OSError:  # no process, or no memory for one
            self._process = None

    @property
    def running(self) -> bool:
        """Whether work can be given to it."""
        return self._process is not None

    def ask_to_read(self, top: Path, wanted: Sequence[tuple[str, str]]) -> None:
        """Have it read records: blobs, and where each one lies from the work tree's top."""
        self._ask({"do": "read", "top": os.fspath(top), "wanted": list(wanted)}, b"")

    def read(self) -> Sessions | None:
        """Return what it read; None if it failed."""
        from pytest_llmperf.history.sessions import from_bytes

        answer = self._answer()
        try:
            return from_bytes(answer) if answer is not None else None
        except (ValueError, KeyError, TypeError, IndexError):
            self.close()
            return None

    def ask_to_search(self, series: Sequence[Series]) -> None:
        """Have it look for change points in series of metrics that are known."""
        asked = [[one.name, len(one.values)] for one in series]
        self._ask({"do": "search", "series": asked}, b"".join(s.values.tobytes() for s in series))

    def found(self) -> list[tuple[ChangePoint, ...]] | None:
        """Return the change points per series; None if it failed."""
        from pytest_llmperf.history.change_points import ChangePoint

        answer = self._answer()
        try:
            said = json.loads(answer) if answer is not None else None
            return said and [tuple(ChangePoint(*change) for change in one) for one in said]
        except (ValueError, TypeError):
            self.close()
            return None

    def close(self) -> None:
        """End the process, if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:  # what it was still to be told
                pass

    def _ask(self, question: Mapping[str, Any], payload: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            send(process.stdin, question, payload)
        except OSError:
            self.close()

    def _answer(self) -> bytes | None:
        process = self._process
        if process is None or process.stdout is None:
            return None
        received = receive(process.stdout)
        if received is None:
            self.close()
            return None
        return received[1]


def send(stream: IO[bytes], said: Mapping[str, Any], payload: bytes) -> None:
    """Write one message.

    Raises:
        OSError: nobody listens.
    """
    head = {**said, "bytes": len(payload)}
    # ASCII JSON keeps lone surrogates (of paths that are no UTF-8) as escapes.
    stream.write(json.dumps(head).encode("ascii") + b"\n")
    stream.write(payload)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Read one message; None where there is no whole one."""
    try:
        head = json.loads(stream.readline())
        payload = stream.read(head["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (head, payload) if len(payload) == head["bytes"] else None
