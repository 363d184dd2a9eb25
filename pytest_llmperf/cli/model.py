"""``llmperf model``: bring an embedded model into the cache and print the file's path."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pytest_llmperf.cli.output import complain


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to the command line."""
    model = commands.add_parser(
        "model", help="bring an embedded model into the cache and print the file's path"
    )
    model.add_argument("name", help="such as smollm2-135m")


def run(arguments: argparse.Namespace) -> int:
    """Fetch the model and print its path; return the exit status."""
    from pytest_llmperf.config.embedded import fetch
    from pytest_llmperf.config.errors import ModelError

    try:
        path = fetch(arguments.name, say=lambda line: print(line, file=sys.stderr, flush=True))
    except ModelError as error:
        return complain(error, 1)
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    print(path)
    return 0
