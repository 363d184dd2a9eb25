"""``llmperf bisect``: find the commit that made perf tests slower, by measuring commits."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.output import (
    OutputError,
    check_writable,
    ending_on_sigterm,
    fail,
    say,
    say_wrapped,
    width,
)
from pytest_llmperf.text import json_text

if TYPE_CHECKING:
    from pytest_llmperf.bisect.drive import Bisection
    from pytest_llmperf.bisect.outcome import BisectOutcome
    from pytest_llmperf.bisect.project import BisectProject

_DESCRIPTION = """\
Finds the commit after GOOD that made perf tests slower at BAD.

BAD is compared with GOOD first; the search follows the metrics that regressed there.
Every commit that git bisect asks about is checked out in a private folder and measured
interleaved with GOOD. A commit that can't be measured or judged is skipped. The commit
that is found is measured once more, against its own parent. Your work tree is not
touched. After an interruption, run the same command to continue.
"""
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "the commit was found",
    1: "an error, such as an unusable repository",
    2: "BAD is not slower than GOOD, or nothing could be measured",
    3: "no single commit is proven: several remain, or the last check did not confirm it",
    130: "interrupted; the same command continues",
    143: "terminated; the same command continues",
}
_EPILOG = f"""\
Arguments after -- go to pytest: llmperf bisect v1.4 HEAD -- -k short

{exit_status_text(EXIT_STATUS)}
"""
_STATUS = {"found": 0, "unconfirmed": 3, "range": 3, "not slower": 2, "unmeasured": 2}
_INTERRUPTED = 130


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "bisect",
        help="find the commit that made perf tests slower",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
        usage="llmperf bisect [OPTION...] GOOD BAD [TEST...] [-- PYTEST_ARGUMENT...]",
    )
    parser.add_argument("good", metavar="GOOD", help="a commit that was fast: branch, tag or hash")
    parser.add_argument("bad", metavar="BAD", help="a later commit that is slow, such as HEAD")
    parser.add_argument(
        "words",
        nargs="*",
        default=[],
        metavar="TEST",
        help="the tests to measure, as for pytest (default: all perf tests)",
    )
    parser.add_argument(
        "--first-parent", action="store_true", help="treat each merge as one commit"
    )
    parser.add_argument(
        "--retry-skipped", action="store_true", help="measure skipped commits again"
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start over: use no earlier measurement, of this search or of other sessions",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the result to this file as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Search, print the outcome, and return the exit status."""
    from pytest_llmperf.bisect.evidence import EvidenceError
    from pytest_llmperf.bisect.history import RangeError
    from pytest_llmperf.bisect.project import ProjectError
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.repository.git import GitError
    from pytest_llmperf.repository.revisions import RevisionError

    try:
        with ending_on_sigterm():
            return _search(arguments)
    except (RangeError, RevisionError) as error:
        return fail(error, 2)
    except (GitError, EvidenceError, ConfigError, ProjectError, OutputError, OSError) as error:
        return fail(error, 1)
    except KeyboardInterrupt:
        text = "interrupted; run the same command to continue"
        return fail(text, _INTERRUPTED)


def _search(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.bisect.drive import Bisection
    from pytest_llmperf.bisect.evidence import BisectEvidence
    from pytest_llmperf.bisect.outcome import Rates
    from pytest_llmperf.bisect.project import find_project, host_label
    from pytest_llmperf.cli.bisect_pytest_sessions import PytestSessions
    from pytest_llmperf.config.embedded import cache_dir
    from pytest_llmperf.gate.rules import FALSE_PASSES
    from pytest_llmperf.report.bisect import BisectText
    from pytest_llmperf.repository.revisions import resolve
    from pytest_llmperf.repository.state import below_top

    project = find_project(Path.cwd(), arguments.words)
    if arguments.json:
        check_writable("--json", project.cwd / arguments.json)
    repository = project.repository
    good, bad = resolve(repository, arguments.good), resolve(repository, arguments.bad)
    perf = project.perf
    key = [*project.key(), good.commit, bad.commit, arguments.first_parent]
    with BisectEvidence(cache_dir(os.environ), key) as evidence:
        if arguments.restart:
            evidence.restart()
        text = BisectText(good, bad, evidence.folder, arguments.first_parent)
        bisection = Bisection(
            repository=repository,
            good=good,
            bad=bad,
            oracle=PytestSessions(project, evidence, partial(say_wrapped, flush=True)),
            evidence=evidence,
            rates=Rates(
                perf.false_alarms,
                FALSE_PASSES,
                None if perf.tolerance == "auto" else perf.tolerance,
            ),
            budget=perf.budget,
            on_event=lambda event: say(*text.event_lines(event, width()), flush=True),
            first_parent=arguments.first_parent,
            isolated=evidence.restarted or not perf.accumulate,
            host=host_label(),
            baselines=below_top(repository, project.baselines),
            retry=arguments.retry_skipped,
        )
        outcome = bisection.run()
        say(*text.outcome_lines(outcome, width()), flush=True)
        if arguments.json:
            _write_json(Path(arguments.json), bisection, outcome, project)
    return _STATUS[outcome.kind]


def _write_json(
    path: Path, bisection: Bisection, outcome: BisectOutcome, project: BisectProject
) -> None:
    """Write the outcome as JSON; raises OSError with a complete message."""
    from pytest_llmperf.atomic_write import atomic_write
    from pytest_llmperf.report.bisect import bisect_json

    target = project.cwd / path
    try:
        atomic_write(target, json_text(bisect_json(bisection, outcome)))
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"can't write the outcome to {target}: {reason}; run the same command with another "
            "--json FILE (stored sessions are not measured again)"
        ) from error
