"""``llmperf max-rate``: find the highest request rate at which a server keeps its goodput."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.arguments import share
from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.options import add_pytest_arguments
from pytest_llmperf.cli.output import OutputError, check_writable, note, run_reporting, say, write
from pytest_llmperf.gate.rules import FALSE_PASSES
from pytest_llmperf.gate.words import percent
from pytest_llmperf.process_groups import run_to_log
from pytest_llmperf.rate_search import Answer, RateSearch
from pytest_llmperf.text import columns, json_text

_DESCRIPTION = """\
Runs one perf test at different request rates, and reports the highest one at which the server
was shown to keep the test's goodput, and the lowest one at which it was shown not to.

The test needs the marker goodput with its limits and min=. Its own rate is replaced; each rate is
a session of its own, whose verdict on the goodput decides.
"""
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "a rate was found",
    1: "no rate keeps the goodput, or a session could not be judged",
    2: "a wrong argument",
    130: "interrupted",
}
_EPILOG = f"""\
Arguments after -- go to pytest: llmperf max-rate -- tests/perf/test_load.py::test_chat

{exit_status_text(EXIT_STATUS)}
"""
_TAIL = 15


@dataclass(frozen=True)
class RateSession:
    """Result of a session at one rate.

    Attributes:
        rate: requests per second.
        answer: whether the goodput was kept.
        goodput: median, and low and high end of its 95% interval; None if it has no value.
        first_token: median time to the first token, seconds, or None.
        text: the answer in one line.
        false_missed: largest chance of ``missed`` at a rate that keeps the goodput.
    """

    rate: float
    answer: Answer
    goodput: tuple[float, float, float] | None
    first_token: float | None
    text: str
    false_missed: float


class _SessionError(Exception):
    """Raised if a session can't judge its rate; ``str()`` is the complete message."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "max-rate",
        help="find the highest request rate at which a server keeps its goodput",
        description=_DESCRIPTION,
        formatter_class=HelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--start",
        type=_rate,
        default=1.0,
        metavar="RATE",
        help="first rate to try, requests per second (default: 1)",
    )
    parser.add_argument(
        "--precision",
        type=share,
        default=0.1,
        metavar="SHARE",
        help="end when the edge is known up to this share of the rate (default: 10%%)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the result to this file as JSON")
    add_pytest_arguments(parser, ", which select a single test")


def run(arguments: argparse.Namespace) -> int:
    """Search, print the result, and return the exit status."""
    return run_reporting(
        lambda: _search(arguments), wrong=(OutputError,), problems=(_SessionError,)
    )


def _search(arguments: argparse.Namespace) -> int:
    if arguments.json:
        check_writable("--json", Path(arguments.json))
    search = RateSearch(arguments.start, arguments.precision)
    sessions: list[RateSession] = []
    try:
        with tempfile.TemporaryDirectory(prefix="llmperf-") as folder:
            while (rate := search.next) is not None:
                session = _measure(rate, Path(folder), arguments.pytest_args)
                search.answer(rate, session.answer)
                sessions.append(session)
                note(f"{rate:g} requests/s: {session.text}")
    finally:
        # Results from before an error or Ctrl-C are printed, too.
        if sessions:
            say(*_table(sessions), "", _summary(search), *_confidence(sessions))
    if arguments.json:
        write(Path(arguments.json), _to_json(search, sessions), "the result", "--json")
    return 0 if search.kept is not None else 1


def _measure(rate: float, folder: Path, pytest_args: list[str]) -> RateSession:
    """Run the test at one rate.

    Raises:
        _SessionError: the session has no verdict on the goodput.
    """
    report, log = folder / "report.json", folder / "log"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-m", "perf", "--llmperf-one-process", "--color=no"]
    options = [f"--llmperf-rate={rate:g}", f"--llmperf-json={report}"]
    status = run_to_log([*command, *pytest_args, *options], Path.cwd(), os.environ, log)
    try:
        data = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise _SessionError(_no_report(rate, status, log)) from None
    tests = data["tests"]
    if len(tests) != 1:
        names = ", ".join(test["nodeid"] for test in tests) or "none"
        raise _SessionError(
            f"the search is for a single test, and pytest measured {len(tests)} ({names}); name "
            "one after --"
        )
    return _session(rate, tests[0], data["session"]["false_alarms"])


def _session(rate: float, test: dict[str, Any], false_missed: float) -> RateSession:
    metrics = {metric["name"]: metric for metric in test["metrics"]}
    goodput = metrics.get("goodput")
    if goodput is None or goodput["limit"] is None:
        raise _SessionError(
            f"{test['nodeid']} has no target for its goodput; add the marker "
            "goodput(first_token='500ms', min='95%')"
        )
    first = metrics.get("first_token", {}).get("value")
    verdict = goodput["verdict"]
    if verdict in ("invalid", "error"):
        why = {fault["name"] for fault in test["fitness"] if fault["severity"] == "invalid"}
        if why == {"over_saturated"}:
            text = "the server can't keep up"
            return RateSession(rate, "missed", None, first, text, false_missed)
        raise _SessionError(f"{rate:g} requests/s can't be judged: {goodput['explanation']}")
    reached = {r["strategy"]: r["verdict"] for r in goodput["reasons"]}.get("target", verdict)
    answers: dict[str, Answer] = {"pass": "kept", "missed": "missed"}
    answer = answers.get(reached, "undecided")
    value, low, high = (goodput[key] for key in ("value", "low", "high"))
    estimate = None if value is None else (value, low, high)
    shown = "" if value is None else f", {_percent(value)} of the requests within all limits"
    text = f"goodput {answer}{shown}"
    return RateSession(rate, answer, estimate, first, text, false_missed)


def _table(sessions: list[RateSession]) -> Iterator[str]:
    rows = [("requests/s", "goodput", "95% interval", "first token", "")]
    for session in sorted(sessions, key=lambda row: row.rate):
        value, interval = "-", "-"
        if session.goodput is not None:
            value = _percent(session.goodput[0])
            interval = f"{_percent(session.goodput[1])} to {_percent(session.goodput[2])}"
        first = "-" if session.first_token is None else f"{1000 * session.first_token:.3g} ms"
        rows.append((f"{session.rate:g}", value, interval, first, session.answer))
    return iter(columns(rows))


def _summary(search: RateSearch) -> str:
    kept, missed = search.kept, search.missed
    if kept is None:
        lowest = min(search.answers)
        return f"no rate was shown to keep the goodput, down to {lowest:g} requests/s"
    text = f"the goodput is kept at {kept:g} requests/s"
    return text + (f", and missed at {missed:g}" if missed is not None else "")


def _confidence(sessions: list[RateSession]) -> Iterator[str]:
    """Yield a sentence on how often a rate is judged wrongly."""
    kept, missed = FALSE_PASSES, max(session.false_missed for session in sessions)
    yield (
        "each rate is judged by itself: one that misses the goodput is called kept in at most "
        f"{percent(kept)} of sessions, one that keeps it missed in at most {percent(missed)}"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3g}%"


def _to_json(search: RateSearch, sessions: list[RateSession]) -> str:
    data = {
        "kept": search.kept,
        "missed": search.missed,
        "false_kept": FALSE_PASSES,
        "sessions": [vars(session) for session in sessions],
    }
    return json_text(data)


def _no_report(rate: float, status: int, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    tail = [line for line in lines if line.strip()][-_TAIL:]
    return "\n".join(
        [
            f"the session at {rate:g} requests/s ended with status {status} and no verdicts:",
            *(f"  | {line}" for line in tail),
        ]
    )


def _rate(text: str) -> float:
    from pytest_llmperf.metrics import Unit
    from pytest_llmperf.units import UnitError, parse_quantity

    try:
        rate = parse_quantity(text, Unit.PER_SECOND)
    except UnitError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"expected a rate above 0, got {text!r}")
    return rate
