"""The block that shows progress on a terminal."""

from __future__ import annotations

import re
import time
from itertools import chain, count
from threading import Thread
from typing import Any

import pytest
from terminal_screen import screen
from test_progress import NODEID, OPEN, step

from pytest_llmperf.report.live_progress import LiveProgress
from pytest_llmperf.text import printable

COLOUR = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")


def shown_after(*steps: Any, lines: tuple[str, ...] = (), **options: Any) -> tuple[list[str], str]:
    """Return what the terminal shows after these steps, and everything that was written."""
    written: list[str] = []
    live = LiveProgress(written.append, **{"color": False, **options})
    for number, state in enumerate(steps):
        live.step(state, 20.0 + number)
    for text in lines:
        live.line(text)
    shown = screen("".join(written))
    live.close()
    live.close()
    # Only the lines printed meanwhile remain.
    assert [row for row in screen("".join(written)) if row] == [printable(line) for line in lines]
    return shown, "".join(written)


def test_it_shows_the_round_the_time_the_replay_and_what_is_open() -> None:
    shown, _ = shown_after(step(open=OPEN, left=40.0))
    bar, *rest = shown
    assert bar.endswith(" process 2 · 20 s, about 40 s left")
    assert rest == [
        "test_short_answer[gpu::12] · iteration 2/3",
        f"  {OPEN[0]}",
        f"  {OPEN[1]}",
    ]


def test_a_longer_block_leaves_nothing_behind() -> None:
    shown, _ = shown_after(step(open=OPEN), step(iteration=None))
    assert [line for line in shown[1:] if line] == ["test_short_answer[gpu::12] · warming up"]


def test_a_long_name_is_broken_and_not_cut() -> None:
    name = "test_" + "x" * 120 + "[n_ctx-4096]"
    shown, _ = shown_after(step(nodeid=f"t.py::{name}"), step(nodeid=f"t.py::{name}"))
    assert "".join(shown[1:]) == f"{name} · iteration 2/3"


def test_a_line_stands_above_the_block_and_stays() -> None:
    shown, _ = shown_after(step(), lines=("llmperf: note: [b]a\x1b[2J",))
    assert shown[0] == "llmperf: note: [b]a\\x1b[2J"
    assert shown[-1] == "test_short_answer[gpu::12] · iteration 2/3"


def test_the_cursor_is_never_hidden() -> None:
    """A killed process could not show it again."""
    assert "?25" not in shown_after(step())[1]


def test_colours_only_where_they_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert COLOUR.search(shown_after(step(left=9.0), color=True)[1])
    assert not COLOUR.search(shown_after(step(left=9.0), color=False)[1])
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[(3|9|4)\d", shown_after(step(left=9.0), color=True)[1])


def test_an_ascii_terminal_gets_ascii() -> None:
    assert shown_after(step(open=OPEN, left=9.0), encoding="ascii")[1].isascii()


def test_a_hostile_name_can_not_move_the_cursor() -> None:
    shown, _ = shown_after(step(nodeid=f"{NODEID}\x1b[2J\r\n"))
    assert any("\\x1b[2J" in line for line in shown)


def test_what_threads_print_is_not_written_over() -> None:
    """Every other block is taller, so a wrong order would move the cursor up too far."""
    written: list[str] = []

    def slow_terminal(text: str) -> None:
        # Another thread runs between rendering and writing.
        time.sleep(0.001)
        written.append(text)

    live = LiveProgress(slow_terminal, color=False)
    lines = {name: [f"{name} {number}" for number in range(100)] for name in ("one", "other")}

    def tell(name: str) -> None:
        for line in lines[name]:
            # In one write: a separate line end could go to the previous standard output.
            print(f"{line}\n", end="")

    threads = [Thread(target=tell, args=[name]) for name in lines]
    for thread in threads:
        thread.start()
    for number in count():
        live.step(step(open=OPEN if number % 2 else ()), 20.0)
        if not any(thread.is_alive() for thread in threads):
            break
    live.close()
    shown = [line for line in screen("".join(written)) if line]
    assert sorted(shown) == sorted(chain(*lines.values()))
