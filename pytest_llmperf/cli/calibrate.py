"""``llmperf calibrate``: measure a machine's noise, and what the gate catches on it."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.arguments import share, whole_number
from pytest_llmperf.process_groups import signal_process, wait_until_ended

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_DESCRIPTION = """\
Runs the perf tests of the current folder again and again, each session as two
sides of the same configuration, interleaved as for a real comparison. Prints and
stores the noise of the machine, how often the gate called what did not change
(A/A), what it can catch within the budget, and how long a session takes. With
--plant the candidate's decode is really slowed inside the engine's process, to
show that such a slowdown is caught. Needs a quiet machine: nothing else should
use the cores.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "calibrate",
        help="measure this machine's noise, the gate's false alarms, and what it catches",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Arguments after -- go to pytest, such as -- tests/perf/test_chat.py -k short",
    )
    parser.add_argument(
        "--sessions", type=whole_number(), default=20, metavar="N", help="how many (default: 20)"
    )
    parser.add_argument(
        "--plant",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="slow the candidate's decode by so much, such as 5%%",
    )
    parser.add_argument(
        "--plant-share",
        type=_part,
        default=1.0,
        metavar="SHARE",
        help="of its requests only, such as 20%%",
    )
    parser.add_argument("--json", metavar="FILE", help="write the outcome to this file, too")
    parser.add_argument("--no-store", action="store_true", help="keep nothing beside the baselines")
    parser.add_argument("pytest_args", nargs="*", metavar="-- PYTEST_ARGUMENT", help="for pytest")


def run(arguments: argparse.Namespace) -> int:
    """Run pytest with the request; return its exit status."""
    request = {
        "sessions": arguments.sessions,
        "slowdown": arguments.plant,
        "share": arguments.plant_share,
        "store": not arguments.no_store,
        "json": str(Path(arguments.json).absolute()) if arguments.json else None,
    }
    with tempfile.TemporaryDirectory(prefix="llmperf-") as folder:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(request), encoding="utf-8")
        return _pytest([f"--llmperf-calibrate={path}", *arguments.pytest_args])


def _pytest(arguments: Sequence[str]) -> int:
    """Run pytest and return its exit status; a SIGTERM is passed on to it."""
    process: subprocess.Popen[bytes] | None = None
    asked_to_end = False

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked_to_end
        asked_to_end = True
        if process is not None:
            signal_process(process, signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        process = subprocess.Popen([sys.executable, "-m", "pytest", "-m", "perf", *arguments])
        if asked_to_end:
            signal_process(process, signal.SIGTERM)
        _wait(process)
    finally:
        signal.signal(signal.SIGTERM, before)
    # Only now, when nothing is passed on any more, is its id given back.
    status = process.wait()
    # Ended by a signal: what a shell calls that.
    return status if status >= 0 else 128 - status


def _wait(process: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            wait_until_ended(process)
            return
        except KeyboardInterrupt:
            # The terminal interrupts pytest, too, which reports and ends by itself.
            continue


def _part(text: str) -> float:
    part = share(text)
    if not 0 < part <= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0%, at most 100%, got {text!r}")
    return part
