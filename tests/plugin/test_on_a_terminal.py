"""Sessions on a real pseudo-terminal: progress is redrawn in place and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from terminal_screen import screen

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")

#: A thread that prints while tests are measured, as an application's might.
TICKING = """
import threading, time

def tick():
    for number in range(1000):
        print(f"tick {number} of a thread")
        time.sleep(0.05)

@pytest.mark.perf
def test_answer(llm_engine):
    threading.Thread(target=tick, daemon=True).start()
    llm_engine.generate("hello", max_tokens=8)
"""

HANGING = """
@pytest.mark.perf
def test_answer(llm_engine):
    llm_engine.generate("hang later")
"""


def on_terminal(
    project, *args: str, meanwhile: Callable[[subprocess.Popen], None] | None = None, **env: str
) -> tuple[int, str]:
    """Run ``pytest -m perf`` on a terminal of 80 columns; return its status and all it wrote."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "CI")}
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-m", "perf", *args],
        cwd=project.path,
        env={**kept, "TERM": "xterm-256color", **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    if meanwhile is not None:
        meanwhile(process)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux reports the end of a terminal
            break
        if not part:
            break
        written += part
    os.close(ours)
    return process.wait(timeout=60), written.decode()


def hanging_then(project, number: int) -> Callable[[subprocess.Popen], None]:
    """Return a function that sends a signal as soon as a replay hangs."""

    def send(process: subprocess.Popen) -> None:
        until = time.monotonic() + 60
        while not project.path.joinpath("hanging").exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(number)

    return send


def test_progress_is_redrawn_and_taken_away_and_what_threads_print_stays_whole(project):
    project.write(test_it=TICKING)
    status, written = on_terminal(project, "-s")
    assert status == 0, written
    assert re.search(r"process 1 · .*\r\n.*test_answer · iteration 1/3", written)
    shown = screen(written)
    assert not [line for line in shown if "iteration 1/3" in line or "━" in line]
    ticks = [line for line in shown if "tick" in line]
    numbers = [
        int(re.fullmatch(r"(?:test_it\.py )?\.?tick (\d+) of a thread", t)[1]) for t in ticks
    ]
    assert numbers == list(range(len(numbers)))
    assert "1 test, 3 checks: 3 no baseline" in "\n".join(shown)
    assert "?25" not in written


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_session_that_is_ended_leaves_the_terminal_clean(project, number):
    project.write(test_it=HANGING)
    status, written = on_terminal(project, meanwhile=hanging_then(project, number))
    assert status == (-signal.SIGTERM if number is signal.SIGTERM else pytest.ExitCode.INTERRUPTED)
    assert "warming up" in written
    shown = screen(written)
    assert not [line for line in shown if "warming up" in line or "process 1" in line]
    if number is signal.SIGTERM:
        assert shown[-1] == ""


@pytest.mark.parametrize(
    ("args", "env"),
    [((), {"CI": "true"}), ((), {"TERM": "dumb"}), (("-q",), {}), (("-p", "no:terminal"), {})],
    ids=["ci", "dumb", "quiet", "no terminal plugin"],
)
def test_where_nobody_watches_nothing_is_redrawn(one_test, args, env):
    status, written = on_terminal(one_test, *args, **env)
    assert status == 0
    assert "iteration 1/3" not in written
    assert "\x1b[2K" not in written
