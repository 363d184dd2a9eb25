"""Rebuilds this session's command line, so that failures can show a command to copy."""

from __future__ import annotations

import os
import shlex
import sys

import pytest

from pytest_llmperf.text import shell_word

#: Options that decide what is measured; each takes a value.
_KEPT = (
    "--llmperf-config",
    "--llmperf-set",
    "--llmperf-against-config",
    "--rootdir",
    "--confcutdir",
    "--config-file",
    "-c",
)
#: Options that decide what to compare with; a session that only records does not need them.
_COMPARED = ("--llmperf-against", "--llmperf-baselines-from", "--llmperf-confirm")


def command_stem(config: pytest.Config, *, with_comparison: bool = False) -> str:
    """Return the command that runs perf tests as this session did, without naming tests.

    ``with_comparison``: keep the options that decide what to compare with, too. Environment
    variables are left to the user's shell.
    """
    options = (*_KEPT, *_COMPARED) if with_comparison else _KEPT
    kept = _kept(config.invocation_params.args, options)
    return " ".join([_program(), "-m perf", *map(shlex.quote, kept)])


def whole_command(config: pytest.Config) -> str:
    """Return the command line of this session, quoted for a POSIX shell."""
    arguments = map(os.fspath, config.invocation_params.args)
    return " ".join([_program(), *map(shell_word, arguments)])


def _program() -> str:
    return "python -m pytest" if sys.argv and sys.argv[0].endswith("__main__.py") else "pytest"


def as_argument(config: pytest.Config, nodeid: str) -> str:
    """Return a test's node id as an argument in the folder that pytest was started from."""
    path, separator, rest = nodeid.partition("::")
    relative = os.path.relpath(config.rootpath / path, config.invocation_params.dir)
    return f"{relative}{separator}{rest}"


def _kept(arguments: tuple[str | os.PathLike[str], ...], options: tuple[str, ...]) -> list[str]:
    """Return the words that give these options: ``--option value`` or ``--option=value``."""
    kept: list[str] = []
    words = [os.fspath(argument) for argument in arguments]
    for index, word in enumerate(words):
        if word in options and index + 1 < len(words):
            kept += [word, words[index + 1]]
        elif word.startswith(tuple(f"{option}=" for option in options if option != "-c")):
            kept.append(word)
    return kept
