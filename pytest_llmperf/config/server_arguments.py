"""Arguments of the command that starts a server, given as entries of ``llm.extra``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: Words of a command line that hold a key or precede one: ``--api-key``, ``--hf-token=...``,
#: ``HF_TOKEN=...``. llama.cpp's ``-hft`` is short for ``--hf-token``.
_KEY_WORD = re.compile(
    r"-(-?[\w-]*?(api[-_]?keys|key|token|password|secret)|hft)(=|$)"
    r"|\w*(key|token|password|secret)=",
    re.IGNORECASE,
)
_KEY_TEXT = (
    "holds a key, and files and records are no place for keys; set the environment variable that "
    "the server reads it from, or name a script that passes it on. llm.api_key_env names the "
    "variable of the key that requests send"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def key_problem(words: Iterable[str]) -> str:
    """Return the option in a command that holds a key, never its value, and the fix; or ``""``."""
    for word in words:
        if _KEY_WORD.match(word) is not None:
            return f"{word.partition('=')[0]} {_KEY_TEXT}"
    return ""


def argument_problems(start: str, extra: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names that can't be arguments of this command, and why; never their values."""
    given = _given(start)
    for name, value in extra.items():
        if _NAME.fullmatch(name) is None:
            yield (
                name,
                (
                    "is not the name of an option; write it without its dashes, such as parallel "
                    "for --parallel"
                ),
            )
        elif key_problem([f"--{name}"]):
            yield name, _KEY_TEXT
        elif _alike(name) in given:
            yield name, f"llm.start has {given[_alike(name)]} already; keep one of them"
        elif not (value is None or isinstance(value, bool | int | float | str)):
            kind = "a list" if isinstance(value, list) else "a mapping"
            yield (
                name,
                (
                    f"expected true, a number or text, got {kind}; put quotes around what follows "
                    f"--{name} on the command line"
                ),
            )


def started_command(start: str, extra: Mapping[str, Any]) -> str:
    """Return the command with its arguments: ``serve --port {port} --parallel 4 --metrics``."""
    words = []
    for name, value in extra.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", str(value)]
    return f"{start} {shlex.join(words)}" if words else start


def _given(start: str) -> dict[str, str]:
    """Return the command's own options, by names with unified spelling."""
    try:
        words = shlex.split(start)
    except ValueError:
        return {}  # reported separately, with llm.start
    options = (word.partition("=")[0] for word in words if word.startswith("-"))
    return {_alike(option.lstrip("-")): option for option in options}


def _alike(name: str) -> str:
    """Return a name with unified spelling: to most servers ``max_num_seqs`` is ``max-num-seqs``."""
    return name.replace("_", "-")
