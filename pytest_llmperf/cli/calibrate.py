"""``llmperf calibrate``: measure a machine's noise, and what the gate catches on it."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from pytest_llmperf.arguments import share, whole_number
from pytest_llmperf.cli.pytest_run import run_perf_tests

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
        return run_perf_tests([f"--llmperf-calibrate={path}", *arguments.pytest_args])


def _part(text: str) -> float:
    part = share(text)
    if not 0 < part <= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0%, at most 100%, got {text!r}")
    return part
