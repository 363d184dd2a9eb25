"""``llmperf export``: print the engine's settings for llama-server, Ollama or Python."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.options import add_config_options
from pytest_llmperf.cli.output import put, run_reporting

_PROGRAMS = ("llama-server", "ollama", "python")
_DESCRIPTION = """\
Prints the settings of config.yaml for another program: a command that starts llama-server,
a Modelfile for Ollama, or Python code for llama-cpp-python. Settings that the program does
not have are listed in comments. No model is loaded.
"""
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "printed",
    1: "the output can't be written",
    2: "the configuration, its model or its engine can't be exported",
}
_EPILOG = f"""\
examples:
  llmperf export llama-server
  llmperf export ollama > Modelfile
  llmperf export python --set llm.n_batch=512

{exit_status_text(EXIT_STATUS)}
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "export",
        help="print the settings for llama-server, Ollama or Python",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "program",
        choices=_PROGRAMS,
        metavar="|".join(_PROGRAMS),
        help="the other program",
    )
    add_config_options(parser, "llm.n_threads=4")


def run(arguments: argparse.Namespace) -> int:
    """Print the settings; return the exit status."""
    from pytest_llmperf.cli.output import OutputError
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.report.exports import ExportError

    return run_reporting(
        lambda: _export(arguments),
        wrong=(ConfigError, ExportError),
        problems=(OutputError,),
    )


def _export(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.config.model_path import resolve_model
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.doctor.setup import load_for_command
    from pytest_llmperf.report.exports import export_settings, is_hub_model

    project = ProjectFolders.around(Path.cwd())
    loaded = load_for_command(arguments.config, arguments.set, project, os.environ)
    settings = loaded.config.llm.resolved()
    file = None
    if loaded.config.llm.kind.needs == "model" and not is_hub_model(settings):
        file = resolve_model(settings["model_path"], loaded.base_dir)
    put(export_settings(arguments.program, settings, file), "the settings")
    return 0
