"""The command line ``llmperf``: stored baselines, commits, calibration, diagnosis, models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytest_llmperf import __version__
from pytest_llmperf.cli import baseline, bisect, calibrate, compare, doctor, history
from pytest_llmperf.cli.output import complain


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``argv`` (default: the process's own); return the exit status."""
    parser = argparse.ArgumentParser(
        prog="llmperf", description="Tools around pytest_llmperf; tests run with: pytest -m perf"
    )
    parser.add_argument("--version", action="version", version=f"llmperf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    model = commands.add_parser(
        "model", help="bring an embedded model into the cache and print the file's path"
    )
    model.add_argument("name", help="such as smollm2-135m")
    schema = commands.add_parser("schema", help="print the JSON Schema of config.yaml")
    schema.add_argument(
        "--check", action="store_true", help="only say whether the shipped schema is up to date"
    )
    baseline.add_parser(commands)
    compare.add_parser(commands)
    history.add_parser(commands)
    bisect.add_parser(commands)
    calibrate.add_parser(commands)
    doctor.add_parser(commands)
    arguments = parser.parse_args(argv)
    if arguments.command == "baseline":
        return baseline.run(arguments)
    if arguments.command == "history":
        return history.run(arguments)
    if arguments.command == "bisect":
        return bisect.run(arguments)
    if arguments.command == "compare":
        return compare.run(arguments)
    if arguments.command == "calibrate":
        return calibrate.run(arguments)
    if arguments.command == "doctor":
        return doctor.run(arguments)
    if arguments.command == "model":
        return _model(arguments.name)
    return _check_schema() if arguments.check else _print_schema()


def _model(name: str) -> int:
    from pytest_llmperf.config.errors import ModelError
    from pytest_llmperf.config.fetch import fetch

    try:
        path = fetch(name, say=lambda line: print(line, file=sys.stderr, flush=True))
    except ModelError as error:
        return complain(error, 1)
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    print(path)
    return 0


def _print_schema() -> int:
    from pytest_llmperf.config.json_schema import schema_text

    sys.stdout.write(schema_text())
    return 0


def _check_schema() -> int:
    from pytest_llmperf.config.json_schema import SHIPPED, schema_text

    shipped = SHIPPED.read_text(encoding="utf-8") if SHIPPED.is_file() else ""
    if shipped == schema_text():
        return 0
    print(f"llmperf: {SHIPPED} is stale; run: llmperf schema > {SHIPPED}", file=sys.stderr)
    return 1
