"""``llmperf schema``: print the JSON Schema of ``config.yaml``, or check the shipped one."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text

#: Exit status -> its meaning.
EXIT_STATUS = {0: "printed, or the shipped schema is up to date", 1: "the shipped schema is stale"}


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to the command line."""
    schema = commands.add_parser(
        "schema",
        help="print the JSON Schema of config.yaml",
        epilog=exit_status_text(EXIT_STATUS),
        formatter_class=HelpFormatter,
    )
    schema.add_argument(
        "--check",
        action="store_true",
        help="print nothing; check that the shipped schema is up to date",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the schema, or check the shipped one; return the exit status."""
    from pytest_llmperf.config.json_schema import SHIPPED, schema_text

    if not arguments.check:
        sys.stdout.write(schema_text())
        return 0
    shipped = SHIPPED.read_text(encoding="utf-8") if SHIPPED.is_file() else ""
    if shipped == schema_text():
        return 0
    print(f"llmperf: {SHIPPED} is stale; run: llmperf schema > {SHIPPED}", file=sys.stderr)
    return 1
