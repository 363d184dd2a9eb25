"""``llmperf model``: fetch an embedded model, quantize a model, or write a synthetic one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.output import ending_on_sigterm, note, run_reporting, say

if TYPE_CHECKING:
    from pytest_llmperf.models.model_output import WrittenModel

_VERBS = ("fetch", "quantize", "synth")
_FORCE = "overwrite existing files"


def with_verb(words: Sequence[str]) -> list[str]:
    """Expand the short form ``model NAME`` of a command line to ``model fetch NAME``."""
    if len(words) > 1 and words[0] == "model" and words[1] not in (*_VERBS, "-h", "--help"):
        return ["model", "fetch", *words[1:]]
    return list(words)


#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "done",
    1: "a problem with a model or the disk",
    2: "a wrong argument",
}


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``model`` and its subcommands to the command line."""
    model = commands.add_parser(
        "model",
        help="fetch, quantize or synthesize a model file",
        epilog=exit_status_text(EXIT_STATUS),
        formatter_class=HelpFormatter,
    )
    verbs = model.add_subparsers(dest="verb", required=True, metavar="VERB")

    fetch = verbs.add_parser(
        "fetch", help="download an embedded model into the cache and print its path"
    )
    fetch.add_argument("name", help="name of the model, such as smollm2-135m")

    quantize = verbs.add_parser("quantize", help="quantize a model with llama.cpp")
    quantize.add_argument(
        "model", metavar="MODEL", help="a GGUF file, an embedded model or hf://owner/repo/file.gguf"
    )
    quantize.add_argument(
        "--to", required=True, metavar="TYPES", help="types to write, such as Q4_K_M,Q5_K_M,Q8_0"
    )
    quantize.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder to write to (default: the current one)",
    )
    quantize.add_argument(
        "--allow-requantize", action="store_true", help="accept a model that is quantized already"
    )
    quantize.add_argument("--force", action="store_true", help=_FORCE)

    synth = verbs.add_parser(
        "synth", help="write a model with random weights that is about as fast as a real one"
    )
    synth.add_argument(
        "--like",
        required=True,
        metavar="MODEL",
        help="the model to imitate: a preset such as qwen2.5-7b, or a GGUF file",
    )
    synth.add_argument(
        "--quant",
        metavar="TYPE",
        help="type of the weights (default: Q4_K_M; for a file, its own types)",
    )
    synth.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: named after the model)"
    )
    synth.add_argument(
        "--layers", type=whole_number(), metavar="N", help="number of layers (default: the model's)"
    )
    synth.add_argument("--force", action="store_true", help=_FORCE)


def run(arguments: argparse.Namespace) -> int:
    """Run a subcommand; return 1 for a model or disk problem, 2 for a wrong argument."""
    from pytest_llmperf.config.errors import ModelError
    from pytest_llmperf.models.file_types import UnknownFileTypeError

    command = {"fetch": _fetch, "quantize": _quantize, "synth": _synthesize}[arguments.verb]
    with ending_on_sigterm():
        return run_reporting(
            lambda: command(arguments), wrong=(UnknownFileTypeError,), problems=(ModelError,)
        )


def _fetch(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.config.embedded import fetch

    path = fetch(arguments.name, say=lambda line: print(line, file=sys.stderr, flush=True))
    print(path)
    return 0


def _quantize(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.models.quantize import quantize

    if arguments.allow_requantize:
        note("a model that is quantized already loses more than it should: use it for speed only")
    made = quantize(
        arguments.model,
        arguments.to.split(","),
        arguments.out,
        allow_requantize=arguments.allow_requantize,
        overwrite=arguments.force,
    )
    for file in made:
        _print(file)
    return 0


def _synthesize(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.cli.history import ProgressBar
    from pytest_llmperf.models.synthetic import default_file_name, synthesize

    like, layers = arguments.like, arguments.layers
    target = arguments.out or Path(default_file_name(like, arguments.quant, layers))
    with ProgressBar("writing") as bar:
        file = synthesize(
            like,
            arguments.quant,
            target,
            layers=layers,
            overwrite=arguments.force,
            progress=lambda done, whole: bar(done >> 20, max(1, whole >> 20)),
        )
    _print(file)
    return 0


def _print(file: WrittenModel) -> None:
    from pytest_llmperf.metrics import Unit
    from pytest_llmperf.units import format_duration, format_quantity

    size = format_quantity(file.size_bytes, Unit.BYTES)
    say("  ".join(filter(None, (file.kind, size, format_duration(file.seconds), str(file.path)))))
    sys.stdout.flush()
