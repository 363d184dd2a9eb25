"""``llmperf quality``: compare the configured engine's answers with a reference's."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.cli.output import (
    OutputError,
    check_writable,
    ending_on_sigterm,
    json_text,
    note,
    run_reporting,
    say,
    width,
    write,
)

if TYPE_CHECKING:
    from pytest_llmperf.engine.launch import LaunchSpec
    from pytest_llmperf.quality.passages import Text
    from pytest_llmperf.session.setup import EngineSetup

_DESCRIPTION = """\
Scores a text with the configured engine and with the reference, and prints how
far the answers differ: mean KL divergence, perplexity, share of equal top
tokens, and how long greedy answers agree. The reference is quality.reference of
the configuration: another file of the same model, other settings, or both. Both
are kept in the cache folder, so that the next candidate takes half the time.
"""
_EPILOG = """\
exit status: 0 measured, 1 not, 2 a wrong argument or configuration,
130 interrupted (docs/quality.md says what the figures mean)
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "quality",
        help="compare the configuration's answers with those of a finer model or setting",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="default: the project's config.yaml"
    )
    parser.add_argument(
        "--reference",
        metavar="MODEL",
        help="the reference's model, as quality.reference.model_path names it",
    )
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="default: quality.text, else a text of this tool"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key, such as llm.type_k=q8_0 or quality.reference.type_k=f16 (repeatable)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")


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
    from pytest_llmperf.text import DOT

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
    """Return a model's name; a file is named from this folder, not from the configuration's."""
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
