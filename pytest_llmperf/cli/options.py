"""Command-line options shared by several commands."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_config_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Add ``--config`` and ``--set``, with ``example`` as the example of a setting."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (default: the project's config.yaml)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"override one setting, such as {example} (repeatable)",
    )


def add_pytest_arguments(parser: argparse.ArgumentParser, purpose: str = "") -> None:
    """Add the arguments after ``--``; ``purpose`` is appended to their help."""
    parser.add_argument(
        "pytest_args",
        nargs="*",
        default=[],
        metavar="-- PYTEST_ARGUMENT",
        help=f"arguments for pytest{purpose}",
    )


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--dir`` for the folder of the baselines, and ``--machine`` for a machine in it."""
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="FOLDER",
        help="folder of the baselines (default: perf.baselines of the project's config.yaml)",
    )
    parser.add_argument("--machine", metavar="KEY", help="only this machine, a folder in it")


def baselines_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder from ``--dir``, or the project's baseline folder; it need not exist."""
    if arguments.dir is not None:
        return Path(arguments.dir)
    from pytest_llmperf.config.load import load_config
    from pytest_llmperf.config.project import ProjectFolders

    return load_config(None, ProjectFolders.around(Path.cwd()), os.environ).baselines_dir
