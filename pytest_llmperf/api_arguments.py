"""Checks and converts arguments of the Python API."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from numbers import Integral, Real
from typing import Any


def setting_text(value: object) -> str:
    """Return a setting's value as JSON; paths become text, numpy's numbers Python's.

    Raises:
        TypeError, ValueError: JSON can't express it; the message says what is expected.
    """
    return json.dumps(value, ensure_ascii=False, default=_plain)


def prompts_of(workload: Any) -> list[str | list[int]] | Callable[..., object]:
    """Return a workload's prompts as a list, or its function.

    Raises:
        TypeError: it is not a prompt, several prompts, or a function.
    """
    if callable(workload):
        function: Callable[..., object] = workload
        return function
    if isinstance(workload, str):
        return [workload]
    if isinstance(workload, bytes | Mapping) or not isinstance(workload, Iterable):
        raise TypeError(
            "workload: expected a prompt, a list of prompts, or a function that is called with an "
            f"engine, got {workload!r}"
        )
    prompts = list(workload)
    for prompt in prompts:
        if not isinstance(prompt, str | list | tuple):
            hint = "a prompt is text or a list of token ids: [[1, 2, 3]]"
            if isinstance(prompt, Mapping):
                hint = "a chat needs a function: lambda engine: engine.chat(messages)"
            raise TypeError(f"workload: expected a list of prompts, got {prompt!r} in it; {hint}")
    return prompts


def check_has_run(function: Callable[..., object], returned: object) -> None:
    """Refuse a coroutine function or a generator function, whose call runs nothing.

    Args:
        function: the workload.
        returned: what it returned.

    Raises:
        TypeError: it has not run.
    """
    if isinstance(returned, Coroutine | Generator):
        returned.close()
        kind = "coroutine" if isinstance(returned, Coroutine) else "generator"
        raise TypeError(
            f"workload: {getattr(function, '__name__', function)} returned a {kind} and ran "
            "nothing; give a plain function, without async and yield (the engine's methods return "
            "when they are done)"
        )


def _plain(value: object) -> str | int | float:
    """Return a path as text, and numpy's numbers as Python's."""
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(
        f"a {type(value).__name__} can't be a setting; expected text, a number, True, False, None, "
        "or a list or dict of them"
    )
