"""``llmperf calibrate``: measure a machine's noise, and what the gate catches on it."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from pytest_llmperf.arguments import share, whole_number
from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.options import add_pytest_arguments
from pytest_llmperf.cli.pytest_run import run_perf_tests

_DESCRIPTION = """\
Runs the perf tests of the current folder many times, each time as a comparison of the
configuration with itself.

Prints and stores how noisy this machine is, how often the gate reports a regression where
nothing changed, which slowdowns it finds within the budget, and how long that takes. With
--plant the candidate's decode is slowed down for real, to see that this is found. Nothing
else should run on the machine meanwhile.
"""
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "calibrated",
    1: "a test failed",
    2: "interrupted",
    4: "a wrong argument or configuration",
    5: "no perf test was found",
}
_EPILOG = f"""\
Arguments after -- go to pytest: llmperf calibrate -- tests/perf/test_chat.py -k short

{exit_status_text(EXIT_STATUS)}
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "calibrate",
        help="measure how noisy this machine is, and which slowdowns the gate finds on it",
        description=_DESCRIPTION,
        formatter_class=HelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--sessions",
        type=whole_number(),
        default=20,
        metavar="N",
        help="number of sessions (default: 20)",
    )
    parser.add_argument(
        "--plant",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="slow the candidate's decode down by this much, such as 5%%",
    )
    parser.add_argument(
        "--plant-share",
        type=_part,
        default=1.0,
        metavar="SHARE",
        help="slow only this share of its requests, such as 20%% (default: all)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the result to this file as JSON")
    parser.add_argument("--no-store", action="store_true", help="don't store the result")
    add_pytest_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run pytest with the calibration request; return its exit status."""
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
