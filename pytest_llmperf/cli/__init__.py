"""The command line ``llmperf``: stored baselines, commits, calibration, diagnosis, tuning."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytest_llmperf import __version__
from pytest_llmperf.cli import (
    baseline,
    bisect,
    calibrate,
    ci,
    compare,
    doctor,
    export,
    history,
    import_results,
    max_rate,
    model,
    quality,
    report,
    schema,
    tune,
)
from pytest_llmperf.cli.parser import CommandParser

#: Commands by name, in the order of ``llmperf --help``.
COMMANDS = {
    "model": model,
    "schema": schema,
    "baseline": baseline,
    "report": report,
    "compare": compare,
    "history": history,
    "bisect": bisect,
    "calibrate": calibrate,
    "doctor": doctor,
    "quality": quality,
    "tune": tune,
    "max-rate": max_rate,
    "export": export,
    "ci": ci,
    "import": import_results,
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = CommandParser(
        prog="llmperf",
        description="Tools for LLM performance tests. The tests run with: pytest -m perf",
    )
    parser.add_argument("--version", action="version", version=f"llmperf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: ``sys.argv[1:]``); return the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(model.with_verb(sys.argv[1:] if argv is None else argv))
    status: int = COMMANDS[arguments.command].run(arguments)
    return status
