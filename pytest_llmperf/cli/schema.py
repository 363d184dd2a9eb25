"""``llmperf schema``: print the JSON Schema of ``config.yaml``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text

#: Exit status -> its meaning.
EXIT_STATUS = {0: "printed"}


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to the command line."""
    commands.add_parser(
        "schema",
        help="print the JSON Schema of config.yaml",
        epilog=exit_status_text(EXIT_STATUS),
        formatter_class=HelpFormatter,
    )


def run(_arguments: argparse.Namespace) -> int:
    """Print the schema; return the exit status."""
    from pytest_llmperf.config.json_schema import schema_text

    sys.stdout.write(schema_text())
    return 0
