"""Rebuilds command lines of ``llmperf tune`` and related commands from parsed arguments."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

#: Sections whose values may be private, such as an application's key.
_PRIVATE = ("llm", "llm.extra")


def search_words(arguments: argparse.Namespace) -> list[str]:
    """Return the words that repeat the search, without the options for its result."""
    words = ["llmperf", "tune"]
    for prompt in arguments.prompt:
        words += ["--prompt", prompt]
    if arguments.max_tokens is not None:
        words += ["--max-tokens", str(arguments.max_tokens)]
    if arguments.config is not None:
        words += ["--config", str(arguments.config)]
    for setting in arguments.set:
        words += ["--set", setting]
    if arguments.budget is not None:
        words += ["--budget", f"{arguments.budget:g}s"]
    for phase in arguments.phase or ():
        words += ["--phase", str(phase)]
    if arguments.study is not None:
        words += ["--study", arguments.study]
    if arguments.storage is not None:
        words += ["--storage", arguments.storage]
    return [*words, *_after_dashes(arguments.pytest_args)]


def public_command(arguments: argparse.Namespace) -> str:
    """Return the command for a document, without passwords and values of ``llm.extra``."""
    from pytest_llmperf.tune.storage import without_password

    shown = argparse.Namespace(**vars(arguments))
    shown.set = [_without_private(setting) for setting in arguments.set]
    if arguments.storage is not None:
        shown.storage = without_password(arguments.storage)
    return shlex.join(search_words(shown))


def apply_command(arguments: argparse.Namespace) -> str:
    """Return the command that writes the result of this search into the configuration."""
    words, rest = search_words(arguments), _after_dashes(arguments.pytest_args)
    return shlex.join([*words[: len(words) - len(rest)], "--apply", *rest])


def export_command(arguments: argparse.Namespace, program: str, settings: Sequence[str]) -> str:
    """Return the command that prints the settings for another program.

    Args:
        arguments: parsed arguments of the search.
        program: name of the program in ``llmperf export``.
        settings: settings missing in the configuration file, such as ``llm.n_batch=512``.
    """
    words = ["llmperf", "export", program]
    if arguments.config is not None:
        words += ["--config", str(arguments.config)]
    for setting in settings:
        words += ["--set", setting]
    return shlex.join(words)


def _after_dashes(pytest_args: Sequence[str]) -> list[str]:
    return ["--", *pytest_args] if pytest_args else []


def _without_private(setting: str) -> str:
    key = setting.partition("=")[0].strip()
    private = key in _PRIVATE or key.startswith("llm.extra.")
    return f"{key}=***" if private else setting
