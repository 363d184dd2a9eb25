"""Shows errors that a test caused in ``llm_engine`` at the test's own line."""

from __future__ import annotations

import os
import types
from pathlib import Path

import pytest

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"


def remove_plugin_frames(error: BaseException) -> bool:
    """Remove this package's frames from an error's traceback; return whether that was done.

    Only for errors with a complete message: an engine's error or refusal, or an invalid
    argument. Other errors keep their frames, as they show a bug of the plugin.
    """
    frames = _frames(error.__traceback__)
    theirs = [frame for frame in frames if not _is_ours(frame)]
    if not theirs or not _is_ours(frames[-1]) or not _is_message(error, frames[-1]):
        return False
    kept = None
    for frame in reversed(theirs):
        kept = types.TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    error.__traceback__ = kept
    # The message covers the errors inside this package that led to it.
    if error.__cause__ is not None and _is_only_ours(error.__cause__):
        error.__cause__ = None
    if error.__context__ is not None and _is_only_ours(error.__context__):
        error.__context__ = None
    return True


def show_at_test_line(call: pytest.CallInfo[object], config: pytest.Config) -> None:
    """Make a report show a user's error at the line of the test, or of its fixture."""
    if call.excinfo is None or config.getoption("fulltrace", False):
        return
    error = call.excinfo.value
    if remove_plugin_frames(error):
        call.excinfo = pytest.ExceptionInfo.from_exception(error)


def _frames(trace: types.TracebackType | None) -> list[types.TracebackType]:
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    return frames


def _is_ours(trace: types.TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename.startswith(_PACKAGE)


def _is_only_ours(error: BaseException) -> bool:
    """Whether an error was raised inside this package, or in what it called."""
    frames = _frames(error.__traceback__)
    return not frames or _is_ours(frames[0])


def _is_message(error: BaseException, raised: types.TracebackType) -> bool:
    from pytest_llmperf.engine import handle, request
    from pytest_llmperf.engine.errors import EngineError

    if isinstance(error, EngineError):
        return True
    checks = {handle.__file__, request.__file__}
    return isinstance(error, TypeError | ValueError) and (
        raised.tb_frame.f_code.co_filename in checks
    )
