"""Live progress while rounds run."""

from __future__ import annotations

import pytest

from pytest_llmperf.report.progress import Progress
from pytest_llmperf.text import display_width

NODEID = "tests/perf/test_chat.py::test_short_answer[gpu::12]"


def run(*, live: bool, width: int = 80, nodeid: str = NODEID) -> list[str]:
    """Everything written during one process of two iterations."""
    written: list[str] = []
    with Progress(written.append, live=live, width=width) as progress:
        progress.start_process(2, 18.2, 59.6)
        progress.iteration(nodeid, 0, 3, 18.4)
        progress.iteration(nodeid, 2, 3, 20.0)
    return written


def test_a_terminal_sees_one_line_redrawn() -> None:
    written = run(live=True)
    assert "".join(written).count("\n") == 0
    assert (
        written[2].rstrip()
        == "\rprocess 2 · test_short_answer[gpu::12] · iteration 2/3 · 20 s of at least 1 min"
    )


def test_warming_up_is_told_apart() -> None:
    assert "warming up" in run(live=True)[1]


def test_a_shorter_line_wipes_the_longer_one_before_it() -> None:
    written: list[str] = []
    progress = Progress(written.append, live=True)
    progress.start_process(1, 0.0)
    progress.iteration("t.py::" + "long_" * 8, 1, 3, 1.0)
    progress.iteration("t.py::t", 1, 3, 2.0)
    assert display_width(written[2]) >= display_width(written[1])


def test_the_line_is_taken_away_at_the_end() -> None:
    written = run(live=True)
    assert written[-1].strip() == ""
    assert display_width(written[-1].strip("\r")) >= display_width(written[-2].strip("\r").rstrip())


def test_a_log_gets_one_line_per_process() -> None:
    assert run(live=False) == ["process 2 · 18 s of at least 1 min\n"]


def test_without_an_expectation_only_the_time_so_far_is_told() -> None:
    written: list[str] = []
    Progress(written.append, live=False).start_process(1, 0.0)
    assert written == ["process 1 · 0 s\n"]


def test_beyond_the_fewest_nobody_knows_how_many_there_will_be() -> None:
    written: list[str] = []
    Progress(written.append, live=False).start_process(4, 70.0, 59.6)
    assert written == ["process 4 · 1 min 10 s\n"]


def test_a_pair_names_its_arm() -> None:
    written: list[str] = []
    progress = Progress(written.append, live=True)
    progress.start_pair(3, "candidate", 12.0, 30.0)
    progress.iteration("t.py::t", 2, 3, 12.0)
    assert written[1].rstrip() == (
        "\rpair 3, candidate · t · iteration 2/3 · 12 s of at least 30 s"
    )


def test_a_log_gets_one_line_per_pair() -> None:
    written: list[str] = []
    progress = Progress(written.append, live=False)
    for number, side in ((1, "candidate"), (1, "base"), (2, "base"), (2, "candidate")):
        progress.start_pair(number, side, float(number))
    assert written == ["pair 1 · 1 s\n", "pair 2 · 2 s\n"]


@pytest.mark.parametrize("width", [10, 40, 80])
@pytest.mark.parametrize("nodeid", ["t.py::" + "x" * 300, "t.py::試験" * 40, "t.py::t[\x1b[2J\n]"])
def test_the_line_never_wraps_and_never_moves_the_cursor(width: int, nodeid: str) -> None:
    for line in run(live=True, width=width, nodeid=nodeid):
        assert display_width(line.strip("\r")) < width
        assert line.strip("\r").isprintable()


def test_a_sides_name_holds_no_control_character() -> None:
    written: list[str] = []
    Progress(written.append, live=True).start_pair(1, "base (other\x1b[2J.yaml)", 0.0)
    assert "\x1b" not in "".join(written)
    assert "base (other\\x1b[2J.yaml)" in "".join(written)


OPEN = "tokens/s +0.4% [-1.2%, +2.0%], first token +1.0% [-3.0%, +5.0%]"


def test_a_terminal_sees_what_is_open_and_the_time_left() -> None:
    written: list[str] = []
    progress = Progress(written.append, live=True, width=140)
    progress.note_open(OPEN, 39.6)
    progress.start_pair(4, "candidate", 61.0)
    progress.iteration("t.py::test_a", 2, 3, 62.0)
    assert written[-1].strip() == (
        "pair 4, candidate · test_a · tokens/s +0.4% [-1.2%, +2.0%], first token +1.0% "
        "[-3.0%, +5.0%] · about 40 s left"
    )
    written.clear()
    progress = Progress(written.append, live=True, width=80)
    progress.note_open(OPEN, 39.6)
    progress.start_pair(4, "base", 61.0)
    progress.iteration("t.py::test_a_long_name", 2, 3, 62.0)
    line = written[-1].strip("\r").rstrip()
    assert line == "pair 4, base · …t_a_long_name · tokens/s +0.4% [-1.2%, +2.0%] · about 40 s left"
    assert display_width(line) < 80


def test_a_log_says_what_is_open_on_few_lines() -> None:
    written: list[str] = []
    progress = Progress(written.append, live=False)
    for number in range(1, 41):
        progress.note_open("tokens/s +0.4%", 50.0 - number)
        for side in ("candidate", "base"):
            progress.start_pair(number, side, number * 5.0)
    assert written[1] == "pair 2 · tokens/s +0.4% · about 48 s left · 10 s\n"
    assert [line.partition(" · ")[0] for line in written] == [
        *(f"pair {number}" for number in (1, 2, 3, 4)),
        *(f"pair {number}" for number in range(10, 41, 6)),
    ]
