"""``llmperf doctor``: find why the model is slow on this machine, and measure what helps."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.arguments import duration, whole_number
from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.options import add_config_options
from pytest_llmperf.cli.output import (
    OutputError,
    check_writable,
    ending_on_sigterm,
    fail,
    note,
    run_reporting,
    say,
    width,
    write,
)
from pytest_llmperf.text import DOT, json_text

if TYPE_CHECKING:
    from pytest_llmperf.doctor.checkup import Checkup

_DESCRIPTION = """\
Finds out why the configured model is slow on this machine, and what to change.

Loads the model, checks build, devices, settings and machine, measures a small workload,
and prints the causes of slowness, the costliest first, each with its evidence and the
exact change. Changes of settings are tried: fresh processes with and without the change
alternate, and the measured gain is printed. So are changes with no measurable effect.

A server (engine: server) also gets a short load of requests, and its own counters name
the causes; its settings are not tried.
"""
NOT_MEASURED = 2
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "nothing found",
    1: "a cause was found",
    NOT_MEASURED: "the engine can't be loaded or measured; the reason is printed",
    130: "interrupted; the findings so far are printed",
}
_INTERRUPTED = 130


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "doctor",
        help="find out why the model is slow on this machine, and what to change",
        description=_DESCRIPTION,
        epilog=exit_status_text(EXIT_STATUS),
        formatter_class=HelpFormatter,
    )
    add_config_options(parser, "llm.n_threads=4")
    parser.add_argument(
        "--prompt-tokens",
        type=whole_number(),
        metavar="N",
        help="length of the prompt (default: about 512)",
    )
    parser.add_argument(
        "--max-tokens",
        type=whole_number(),
        metavar="N",
        help="length of the answer (default: about 64)",
    )
    parser.add_argument(
        "--concurrency",
        type=whole_number(),
        metavar="N",
        help="requests at once in the short load of a server (default: its slots, 2 to 8)",
    )
    parser.add_argument("--no-try", action="store_true", help="only diagnose; try no change")
    parser.add_argument(
        "--budget",
        type=duration,
        default=120.0,
        metavar="TIME",
        help="time limit for measuring, such as 5m (default: 2m)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the findings to this file as JSON"
    )


def run(arguments: argparse.Namespace) -> int:
    """Examine, print the findings, and return the exit status."""
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.engine.errors import EngineError

    with ending_on_sigterm():
        return run_reporting(
            lambda: _examine(arguments), wrong=(ConfigError, EngineError, OutputError), problems=()
        )


def _examine(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.doctor.checkup import Doctor, limit_of
    from pytest_llmperf.doctor.probe import Sizes
    from pytest_llmperf.doctor.setup import set_up
    from pytest_llmperf.engine.device_lock import DeviceLock
    from pytest_llmperf.report.doctor import as_json, render
    from pytest_llmperf.session.setup import setup_words

    project = ProjectFolders.around(Path.cwd())
    setup = set_up(arguments.config, arguments.set, project, os.environ)
    note(DOT.join(setup_words(project, setup.loaded)))
    if arguments.json is not None:
        check_writable("--json", arguments.json)
    if arguments.concurrency is not None and not setup.spec.kind.loads:
        return fail(
            f"--concurrency: {setup.spec.kind.name} answers one request at a time, so it can't "
            "be sent a load; leave it out",
            NOT_MEASURED,
        )
    lock = DeviceLock(notify=note)
    lock.acquire()
    try:
        doctor = Doctor(
            setup.spec,
            Sizes(arguments.prompt_tokens, arguments.max_tokens, arguments.concurrency),
            arguments.budget,
            setup.loaded.config.perf.fitness,
            try_remedies=not arguments.no_try,
            say=note,
        )
        checkup = doctor.run()
        limit = limit_of(checkup)
    finally:
        lock.release()
    say("", *render(checkup, setup.loaded, width(), limit))
    if arguments.json is not None:
        text = json_text(as_json(checkup, setup.loaded, limit))
        write(arguments.json, text, "the findings", "--json")
    return _status(checkup)


def _status(checkup: Checkup) -> int:
    if checkup.interrupted:
        return fail("interrupted", _INTERRUPTED)
    if checkup.error:
        return NOT_MEASURED
    return 1 if checkup.findings else 0
