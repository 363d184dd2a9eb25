"""Output of ``llmperf tune``'s result: text, documents, and settings in config.yaml."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.cli.output import check_writable, say, width, write
from pytest_llmperf.cli.tune_command import (
    apply_command,
    export_command,
    public_command,
    search_words,
)
from pytest_llmperf.text import json_text, shown_value

if TYPE_CHECKING:
    from pytest_llmperf.report.exports import Program
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.tune.result import Configuration, TuneResult
    from pytest_llmperf.tune.result_cache import ResultCache

#: Other programs, and the form in which they take settings.
_EXPORTS: Mapping[Program, str] = {
    "llama-server": "as llama-server arguments",
    "ollama": "as an Ollama Modelfile",
    "python": "in Python",
}


@dataclass(frozen=True)
class Today:
    """The configuration at the start of the search.

    Attributes:
        setup: the checked configuration.
        file: the configuration file, which need not exist.
        digest: digest of that file.
        result_cache: cache for the result of this search.
    """

    setup: EngineSetup
    file: Path
    digest: str
    result_cache: ResultCache


def check_files(arguments: argparse.Namespace) -> None:
    """Check that the files of the result can be written.

    Raises:
        OutputError: a file can't be written.
    """
    if arguments.json is not None:
        check_writable("--json", arguments.json)
    if arguments.summary is not None:
        check_writable("--summary", _summary_file(arguments))


def read_today(arguments: argparse.Namespace, prompts: Sequence[str]) -> Today:
    """Read the configuration before the search; with ``--apply`` check that it can be changed.

    ``prompts`` are the texts of ``--prompt``.

    Raises:
        ConfigError: it is not valid; with ``--apply``: it can't be written, or is overridden.
        OSError: a file of the model can't be read.
    """
    from pytest_llmperf.config.edit import check_editable, file_digest
    from pytest_llmperf.config.project import FILE_NAME, ProjectFolders
    from pytest_llmperf.doctor.setup import set_up
    from pytest_llmperf.tune.result_cache import ResultCache

    project = ProjectFolders.around(Path.cwd())
    setup = set_up(arguments.config, arguments.set, project, os.environ)
    file = setup.loaded.path or project.root / FILE_NAME
    if arguments.apply:
        _check_nothing_overrides(setup, file)
        check_editable(file)
    digest = file_digest(file)
    words = [*search_words(arguments), *prompts]
    return Today(setup, file, digest, ResultCache(setup, words, digest))


def report(
    result: TuneResult, arguments: argparse.Namespace, today: Today | None, date: str
) -> None:
    """Print the result, write the requested files, and with ``--apply`` the settings.

    Args:
        result: result of the search.
        arguments: parsed arguments of the command.
        today: the configuration; None if it could not be read here.
        date: ISO date of the search.

    Raises:
        OutputError: a file can't be written.
        ConfigError: the settings can't be written.
    """
    from pytest_llmperf.report.tune import render
    from pytest_llmperf.report.tune_json import as_json
    from pytest_llmperf.report.tune_markdown import render_markdown

    say("", *render(result, width()))
    command = public_command(arguments)
    if arguments.json is not None:
        content = json_text(as_json(result, date=date, command=command))
        write(arguments.json, content, "the result", "--json")
    if arguments.summary is not None:
        file = _summary_file(arguments)
        content = render_markdown(result, date=date, command=command)
        write(file, content, "the summary", "--summary")
        say("", f"summary written to {file}")
    if not arguments.apply:
        _say_next_steps(result, arguments)
    elif result.interrupted:
        say("", "nothing is applied: the search was interrupted")
    elif result.winner is None:
        say("", "nothing to apply: no improvement is proven")
    else:
        assert today is not None  # --apply needs it
        _apply(result, arguments, today)


def _summary_file(arguments: argparse.Namespace) -> Path:
    from pytest_llmperf.report.tune_markdown import FILE_NAME

    return Path(arguments.summary or FILE_NAME)


def _check_nothing_overrides(setup: EngineSetup, file: Path) -> None:
    """Refuse engine settings from outside the file, which would not hold what was proven."""
    from pytest_llmperf.config.edit import EditError

    found = [
        f"{key} is set by {where.replace('--llmperf-set', '--set')}"
        for key, where in setup.loaded.provenance.items()
        if (key == "llm" or key.startswith("llm.")) and where.startswith(("--", "environment"))
    ]
    if found:
        raise EditError(
            file,
            f"{'; '.join(found)}. --apply writes what is proven together with the other settings "
            "of this file: put that setting into the file, or remove it",
        )


def _apply(result: TuneResult, arguments: argparse.Namespace, today: Today) -> None:
    from pytest_llmperf.config.edit import EditError, apply_settings

    assert result.winner is not None
    if differing := _differing(today.setup.llm.resolved(), dict(result.before.settings)):
        raise EditError(
            today.file,
            f"the search measured other values of {', '.join(differing)} than those in this file; "
            "pass the configuration and settings with --config and --set, not as pytest options",
        )
    changes = {f"llm.{key}": value for key, value in result.winner.changed.items()}
    applied = apply_settings(
        today.file,
        changes,
        digest=today.digest,
        environ=os.environ,
        overrides=arguments.set,
        show=lambda diff: say("", *diff.splitlines()),
    )
    backup = f"; the old file is {applied.backup}" if applied.backup is not None else ""
    if applied.diff:
        say("", f"settings written to {today.file}{backup}")
    else:
        say("", f"{today.file} already has these settings")
    if command := _started(result.winner):
        say(f"  the server's command: {command}")
    else:
        say(*_exports(result.winner))


def _exports(winner: Configuration) -> Iterator[str]:
    """Yield the settings in the notation of each other program."""
    from pytest_llmperf.report.exports import ExportError, export_settings, is_hub_model

    file = None if is_hub_model(winner.settings) else winner.model_file
    try:
        for program, title in _EXPORTS.items():
            text = export_settings(program, winner.settings, file)
            yield from ("", f"the same settings {title}:", "", *text.splitlines())
    except ExportError as error:
        yield f"the settings can't be exported: {error}"


def _say_next_steps(result: TuneResult, arguments: argparse.Namespace) -> None:
    if result.winner is None:
        return
    changed = result.winner.changed.items()
    settings = [f"llm.{key}={shown_value(value)}" for key, value in changed]
    say(
        "",
        "to write them into the configuration, without measuring again:",
        f"  {apply_command(arguments)}",
    )
    if command := _started(result.winner):
        say("to start the server with them:", f"  {command}")
    else:
        exports = (export_command(arguments, program, settings) for program in _EXPORTS)
        say("to use them in another program:", *(f"  {command}" for command in exports))


def _started(configuration: Configuration) -> str | None:
    """Return the command that starts a configuration's server; None if it has none."""
    from pytest_llmperf.config.server_arguments import started_command

    settings = configuration.settings
    start = settings.get("start")
    return None if start is None else started_command(start, settings["extra"])


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    ours, theirs = (json.loads(json.dumps(side)) for side in (ours, theirs))
    return [f"llm.{key}" for key, value in ours.items() if theirs.get(key) != value]
