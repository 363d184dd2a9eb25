"""Describes an application's exceptions and objects safely, even if printing them fails."""

from __future__ import annotations

import importlib
from pathlib import Path

#: Files that are neither the application's own nor an engine's.
_OURS = (
    *(str(Path(__file__).with_name(f"{name}.py")) for name in ("app", "bootstrap", "worker")),
    importlib.__file__,
)
#: The longest text of an exception that is kept whole.
_LONGEST = 2000


def describe_exception(error: BaseException) -> str:
    """Return type, text and innermost line of an application's exception."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as failure:
        text = ""
        name += f" (it has no text: its __str__ raised {type(failure).__name__})"
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return f"{name}{': ' if text else ''}{text}{_where(error)}"


def describe_object(value: object) -> str:
    """Return the representation of an application's object, or the name of its type."""
    try:
        text = repr(value)
    except BaseException:
        return type(value).__name__
    return text if len(text) <= _LONGEST else type(value).__name__


def is_ours(file: str) -> bool:
    """Whether a frame's file belongs to the worker around an engine or application."""
    return file in _OURS or file.startswith("<frozen ")


def _where(error: BaseException) -> str:
    """Return the innermost line of the application, or of a library it calls, that was running."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not is_ours(file):
            place = f" ({file}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place
