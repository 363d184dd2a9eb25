"""``llmperf compare A B``: whether B measured slower than A, from stored sessions."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.arguments import tolerance
from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.output import OutputError, fail, put, width, write
from pytest_llmperf.text import json_text, printable, printable_lines

if TYPE_CHECKING:
    from typing import Any

    from pytest_llmperf.compare.result import ComparisonResult
    from pytest_llmperf.compare.run import ComparisonRequest

_DESCRIPTION = """\
Compares stored sessions: B is judged against A, by the gate's rules. Nothing is run and
nothing is checked out.

A and B are each one of:
  a commit    a branch, tag, hash, HEAD~1 or merge-base:origin/main; its baselines are read
              out of git. rev:NAME, if a path has that name as well
  a folder    of baselines, or one machine's folder in it
  a file      a recorded session, or a report of --llmperf-json

The newest session of B that A does not contain is judged.
"""
#: Exit status if there is no comparison, or it can't be written.
NOT_COMPARED = 2
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "passed; or inconclusive, without --strict",
    1: "regressed or missed; or inconclusive, with --strict",
    NOT_COMPARED: "could not be compared: different tests, a failed test or invalid samples",
    130: "interrupted",
}
_EPILOG = f"""\
A report contains verdicts of its own: if the old and the new verdict differ, the worse counts.

{exit_status_text(EXIT_STATUS)}
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "compare",
        help="compare the stored sessions of two commits, folders or files",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("base", metavar="A", help="the base: commit, folder or file")
    parser.add_argument(
        "candidate", metavar="B", help="the candidate, which is judged: commit, folder or file"
    )
    parser.add_argument(
        "--format",
        choices=("text", "markdown", "json"),
        default="text",
        help="form of the output; markdown: a comment for a pull request (default: text)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write to this file instead of printing"
    )
    parser.add_argument(
        "--any",
        action="store_true",
        help="show different machines or models side by side, without a verdict",
    )
    parser.add_argument(
        "--machine",
        action="append",
        default=[],
        metavar="KEY",
        help="which machine, if there are several; given twice: A's, then B's",
    )
    parser.add_argument("--model", metavar="NAME", help="which model, if there are several")
    parser.add_argument(
        "--metric",
        action="append",
        type=_metric,
        metavar="NAME",
        help="judge this metric, such as inter_token (repeatable; default: those of the gate)",
    )
    parser.add_argument(
        "--tolerance",
        type=tolerance,
        metavar="SHARE",
        help="slowdown that must be found, such as 5%% (default: perf.tolerance of config.yaml)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 if a check is inconclusive"
    )
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="FOLDER",
        help="folder of the baselines in both commits (default: perf.baselines of config.yaml)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare and report; return 1 for a regression, 2 if nothing could be compared."""
    from pytest_llmperf.baselines.errors import BaselineError
    from pytest_llmperf.compare.run import compare
    from pytest_llmperf.compare.sources import CompareError
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.repository.git import GitError

    try:
        try:
            result = compare(_request(arguments), Path.cwd(), os.environ)
        except (CompareError, BaselineError, ConfigError, GitError) as error:
            return _refuse(arguments, str(error))
        return _report(arguments, result)
    except OutputError as error:
        return fail(error, NOT_COMPARED)
    except KeyboardInterrupt:
        return fail("interrupted", 130)


def _request(arguments: argparse.Namespace) -> ComparisonRequest:
    """Return the request of the command line; raises CompareError."""
    from pytest_llmperf.compare.pairing import Selection
    from pytest_llmperf.compare.run import ComparisonRequest
    from pytest_llmperf.compare.sources import CompareError

    if len(arguments.machine) > 2:
        raise CompareError("--machine: expected it once for both sides or twice, A's first")
    return ComparisonRequest(
        base=arguments.base,
        candidate=arguments.candidate,
        selection=Selection(tuple(arguments.machine), arguments.model, arguments.any),
        baselines=arguments.dir,
        tolerance=arguments.tolerance,
        metrics=tuple(arguments.metric) if arguments.metric else None,
        strict=arguments.strict,
    )


def _report(arguments: argparse.Namespace, result: ComparisonResult) -> int:
    """Print or write the comparison, and return the exit status; raises OutputError."""
    from pytest_llmperf.compare.result import ComparisonOutcome
    from pytest_llmperf.report.comparison import headline

    text = _rendered(arguments, result)
    if arguments.output is None:
        put(text)
    else:
        write(arguments.output, text, "the comparison", "--output")
        put(f"{headline(result)}\nwrote {printable(str(arguments.output))}\n")
    if result.outcome is ComparisonOutcome.NOT_COMPARED:
        return fail(result.why_not_compared, NOT_COMPARED)
    return result.status


def _refuse(arguments: argparse.Namespace, why: str) -> int:
    """Report an error, also in the requested format so that no older report stays in use."""
    from pytest_llmperf.report.comparison import refusal_json, refusal_markdown

    if arguments.format == "json":
        text = json_text(refusal_json(arguments.base, arguments.candidate, why))
    elif arguments.format == "markdown":
        text = refusal_markdown(why)
    else:
        text = f"not compared: {printable_lines(why)}\n" if arguments.output is not None else ""
    if arguments.output is not None:
        write(arguments.output, text, "the comparison", "--output")
    elif text:
        put(text)
    return fail(why, NOT_COMPARED)


def _rendered(arguments: argparse.Namespace, result: ComparisonResult) -> str:
    from pytest_llmperf.report.comparison import comparison_json, render_comparison
    from pytest_llmperf.report.forms.markdown import session_markdown
    from pytest_llmperf.report.reported import session_of

    if arguments.format == "json":
        return json_text(comparison_json(result))
    if arguments.format == "markdown":
        return session_markdown(session_of(comparison_json(result)))
    terminal = arguments.output is None and sys.stdout.isatty()
    color = terminal and not os.environ.get("NO_COLOR")
    return "\n".join(render_comparison(result, width(), color)) + "\n"


def _metric(text: str) -> str:
    from pytest_llmperf.metrics import UnknownMetricError, get_metric

    try:
        metric = get_metric(text)
    except UnknownMetricError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if metric.kind == "share":
        raise argparse.ArgumentTypeError(
            f"{text} is not compared between sessions, which stall at different rates by the hour"
        )
    return metric.name
