"""``llmperf quality``: compare the configured engine's answers with those of a reference."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.options import add_config_options
from pytest_llmperf.cli.output import (
    OutputError,
    check_writable,
    ending_on_sigterm,
    note,
    run_reporting,
    say,
    width,
    write,
)
from pytest_llmperf.text import DOT, json_text

if TYPE_CHECKING:
    from pytest_llmperf.engine.launch import LaunchSpec
    from pytest_llmperf.quality.passages import Text
    from pytest_llmperf.session.setup import EngineSetup

_DESCRIPTION = """\
Measures how far the answers of the configured engine differ from those of a reference.

The reference (quality.reference of config.yaml) is another file of the same model, other
settings, or both. Both engines score a text; the output has the mean KL divergence,
the perplexity, the share of equal top tokens, and how long greedy answers agree. Scores
are kept in the cache folder, so the next candidate takes half the time.
"""
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "measured",
    1: "could not be measured; the reason is printed",
    2: "a wrong argument or configuration",
    130: "interrupted",
}


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "quality",
        help="measure how far answers differ from those of a finer model or setting",
        description=_DESCRIPTION,
        epilog=exit_status_text(EXIT_STATUS),
        formatter_class=HelpFormatter,
    )
    add_config_options(parser, "quality.reference.type_k=f16")
    parser.add_argument(
        "--reference",
        metavar="MODEL",
        help="model of the reference (default: quality.reference.model_path)",
    )
    parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="text to score (default: quality.text, else a built-in text)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the figures to this file as JSON"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; return the exit status."""
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.engine.errors import EngineError
    from pytest_llmperf.quality.errors import QualityError

    with ending_on_sigterm():
        return run_reporting(
            lambda: _measure(arguments),
            wrong=(ConfigError,),
            problems=(QualityError, EngineError, OutputError, OSError),
        )


def _measure(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.doctor.setup import set_up
    from pytest_llmperf.engine.device_lock import DeviceLock
    from pytest_llmperf.quality.measure import quality_of
    from pytest_llmperf.quality.reference import reference_spec
    from pytest_llmperf.report.json_report import quality_json
    from pytest_llmperf.report.quality import render_quality
    from pytest_llmperf.session.setup import setup_words

    project = ProjectFolders.around(Path.cwd())
    settings = list(arguments.set)
    if arguments.reference is not None:
        named = _model(arguments.reference)
        settings.append(f"quality.reference.model_path={json_text(named).strip()}")
    setup = set_up(arguments.config, settings, project, os.environ)
    note(DOT.join(setup_words(project, setup.loaded)))
    if arguments.json is not None:
        check_writable("--json", arguments.json)
    reference, text = reference_spec(setup.loaded, setup.spec), _text(arguments, setup)
    lock = DeviceLock(notify=note)
    lock.acquire()
    try:
        result = quality_of(setup.spec, reference, [text], say=note)
    finally:
        lock.release()
    differences = _differences(setup.spec, reference)
    say("", *render_quality(result, text.name, differences, width()))
    if arguments.json is not None:
        figures = {"schema": 1, "text": text.name, "differences": differences}
        document = json_text({**figures, "figures": quality_json(result)})
        write(arguments.json, document, "the figures", "--json")
    return 0


def _model(named: str) -> str:
    """Return a model's name; the path of a file is relative to the current folder."""
    file = Path(named).expanduser()
    return str(file.absolute()) if file.exists() else named


def _text(arguments: argparse.Namespace, setup: EngineSetup) -> Text:
    from pytest_llmperf.quality.passages import SHIPPED_TEXT, Text
    from pytest_llmperf.quality.reference import configured_text

    if arguments.text is not None:
        return Text.of_file(arguments.text)
    configured = configured_text(setup.loaded)
    return configured or Text(SHIPPED_TEXT.read_text(encoding="utf-8"), "the tool's own text")


def _differences(candidate: LaunchSpec, reference: LaunchSpec) -> list[str]:
    ours, theirs = candidate.config, reference.config
    return [
        f"{name}: reference {theirs[name]}, candidate {value}"
        for name, value in ours.items()
        if theirs[name] != value and name != "model_path"
    ]
