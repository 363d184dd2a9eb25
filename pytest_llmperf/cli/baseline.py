"""``llmperf baseline``: look at the stored sessions, accept a level, set the anchor, prune."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.options import add_folder_options
from pytest_llmperf.cli.output import run_reporting

if TYPE_CHECKING:
    from typing import Any

TESTS_HELP = "full node ids, or their ends from the file name on: test_chat.py::test_short"


#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "done",
    1: "a problem with the baseline files",
    2: "a wrong argument",
}


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``baseline`` and its subcommands to the command line."""
    baseline = commands.add_parser(
        "baseline",
        help="show recorded baselines, accept a level, set the anchor, remove old sessions",
        epilog=exit_status_text(EXIT_STATUS),
        formatter_class=HelpFormatter,
    )
    verbs = baseline.add_subparsers(dest="verb", required=True, metavar="VERB")

    show = verbs.add_parser(
        "show", help="list sessions, their levels and drift, and the slowdowns they can find"
    )
    show.add_argument("tests", nargs="*", default=[], metavar="TEST", help=TESTS_HELP)
    show.add_argument("--json", action="store_true", help="print JSON")

    accept = verbs.add_parser(
        "accept", help="make a recorded session the level to compare with from now on"
    )
    anchor = verbs.add_parser(
        "anchor", help="choose the session that slow creeping is measured from"
    )
    for verb in (accept, anchor):
        verb.add_argument(
            "tests", nargs="*", default=[], metavar="TEST", help=f"{TESTS_HELP}; default: all"
        )
        verb.add_argument(
            "--reason",
            required=True,
            type=_reason,
            help="the reason; it is stored with the decision",
        )
        verb.add_argument(
            "--session", metavar="FILE", help="file of the session (default: the newest one)"
        )

    prune = verbs.add_parser(
        "prune", help="list, and with --yes remove, sessions that no verdict needs"
    )
    prune.add_argument(
        "--keep",
        type=_keep,
        metavar="N",
        help="keep the newest N sessions of each test (default: 20)",
    )
    prune.add_argument("--yes", action="store_true", help="remove the listed sessions")

    for verb in (show, accept, anchor, prune):
        add_folder_options(verb)


def run(arguments: argparse.Namespace) -> int:
    """Run a subcommand; return 1 for a problem with the baselines, 2 for a wrong argument."""
    from pytest_llmperf.baselines.errors import BaselineError
    from pytest_llmperf.baselines.lookup import WrongArgumentError
    from pytest_llmperf.cli.baseline_verbs import VERBS
    from pytest_llmperf.config.errors import ConfigError

    return run_reporting(
        lambda: VERBS[arguments.verb](arguments),
        wrong=(WrongArgumentError,),
        problems=(BaselineError, ConfigError),
    )


def _reason(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a reason, got nothing")
    return text.strip()


def _keep(text: str) -> int:
    from pytest_llmperf.baselines.prune import MIN_KEEP

    return whole_number(MIN_KEEP, " (that many sessions judge)")(text)
