"""Rebuilds the command of this session, so that a failing test can print one to copy."""

from __future__ import annotations

import os
import shlex
import sys

import pytest

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


def command_stem(config: pytest.Config) -> str:
    """Return how perf tests are run the way this session ran them, without naming tests.

    Variables of the environment are the user's shell's to keep.
    """
    program = "python -m pytest" if sys.argv and sys.argv[0].endswith("__main__.py") else "pytest"
    return " ".join([program, "-m perf", *map(shlex.quote, _kept(config.invocation_params.args))])


def as_argument(config: pytest.Config, nodeid: str) -> str:
    """Return what names a test on the command line in the folder pytest was started from."""
    path, separator, rest = nodeid.partition("::")
    here = os.path.relpath(config.rootpath / path, config.invocation_params.dir)
    return f"{here}{separator}{rest}"


def _kept(arguments: tuple[str | os.PathLike[str], ...]) -> list[str]:
    """Pick the options of _KEPT, as ``--option value`` or ``--option=value``."""
    kept: list[str] = []
    words = [os.fspath(argument) for argument in arguments]
    for index, word in enumerate(words):
        if word in _KEPT and index + 1 < len(words):
            kept += [word, words[index + 1]]
        elif word.startswith(tuple(f"{option}=" for option in _KEPT if option != "-c")):
            kept.append(word)
    return kept
