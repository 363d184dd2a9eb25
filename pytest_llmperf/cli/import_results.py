"""``llmperf import FILE...``: store results of other tools as sessions to compare."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.options import baselines_folder
from pytest_llmperf.cli.output import fail, note, run_reporting, say, width

if TYPE_CHECKING:
    from typing import Any

    from pytest_llmperf.importers.run import ImportRequest, ImportResult

_DESCRIPTION = """\
Reads results of other tools and stores them as sessions that `llmperf compare`
and `llmperf history` read:
  llama-bench       -o json or -o jsonl
  vllm              vllm bench serve --save-result or --append-result
  sglang            python -m sglang.bench_serving --output-file FILE
  guidellm          benchmarks.json
  aiperf            profile_export_aiperf.json
  pytest-benchmark  --benchmark-json FILE
A run is one sample of each metric. Runs of one configuration that are given
together are one session. The output says what became of each field.
"""
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "imported",
    1: "the baselines can't be read or written",
    2: "a file is refused (nothing is stored then, or with --keep-going the other files)",
}
_EPILOG = f"""\
examples:
  llmperf import before-*.json --dir before
  llmperf import after-*.json --dir after
  llmperf compare before after

{exit_status_text(EXIT_STATUS)}
"""
_TOOLS = ("llama-bench", "vllm", "sglang", "guidellm", "aiperf", "pytest-benchmark")


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "import",
        help="store results of llama-bench, vLLM, SGLang, GuideLLM, AIPerf or pytest-benchmark",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what the tool wrote")
    parser.add_argument(
        "--tool", choices=_TOOLS, help="the tool that wrote them; default: recognised by the file"
    )
    parser.add_argument(
        "--machine",
        type=_name,
        metavar="NAME",
        help="the machine that they were measured on, where the files do not say",
    )
    parser.add_argument(
        "--model", type=_name, metavar="NAME", help="the model, where the files do not say"
    )
    parser.add_argument(
        "--recorded",
        type=_date,
        metavar="DATE",
        help="when they were measured, for files without a date, such as 2026-03-01T12:00:00Z; "
        "default: when the file was last written",
    )
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="FOLDER",
        help="folder of the baselines; default: perf.baselines of config.yaml",
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="where a file is refused, import the others"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be stored, and store nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    """Import and report; return the exit status."""
    from pytest_llmperf.baselines.errors import BaselineError
    from pytest_llmperf.config.errors import ConfigError

    return run_reporting(
        lambda: _import(arguments), wrong=(ConfigError,), problems=(BaselineError,)
    )


def _import(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.importers.run import import_files
    from pytest_llmperf.report.imports import import_lines

    request = _request(arguments)
    result = import_files(request)
    lines = import_lines(result, width())
    if lines:
        say(*lines)
    return _refusals(result) if result.refused else 0


def _refusals(result: ImportResult) -> int:
    """Print each refused file and its effect on the import; return the exit status."""
    for refused in result.refused:
        note(refused)
    if result.stored:
        return fail(f"{len(result.refused)} of the files were refused", 2)
    others = "; to import the other files anyway: --keep-going" if result.files else ""
    return fail(f"nothing was stored{others}", 2)


def _request(arguments: argparse.Namespace) -> ImportRequest:
    from pytest_llmperf.baselines.store import BaselineStore
    from pytest_llmperf.importers.run import ImportRequest
    from pytest_llmperf.importers.sessions import StatedFacts

    return ImportRequest(
        files=arguments.files,
        store=BaselineStore(baselines_folder(arguments)),
        tool=arguments.tool,
        stated=StatedFacts(arguments.machine, arguments.model, arguments.recorded),
        keep_going=arguments.keep_going,
        dry_run=arguments.dry_run,
    )


def _name(text: str) -> str:
    from pytest_llmperf.text import printable

    if not text.strip() or printable(text) != text or len(text) > 100:
        raise argparse.ArgumentTypeError("expected a readable name of up to 100 characters")
    return text.strip()


def _date(text: str) -> str:
    from pytest_llmperf.importers.items import utc_of

    try:
        return utc_of(datetime.fromisoformat(text.replace("Z", "+00:00")))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"expected a date such as 2026-03-01T12:00:00Z, got {text!r}"
        ) from None
