"""Checks what an engine's class returns and raises, so that errors name its fault."""

from __future__ import annotations

import json
import sys
import traceback
from types import ModuleType
from typing import Any, get_args

from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.generation import FinishReason, Generation
from pytest_llmperf.engine.request import CacheMode, Request
from pytest_llmperf.engine.safe_description import describe_exception, describe_object, is_ours
from pytest_llmperf.timeline import Timeline

#: How many of the innermost calls an error shows.
_MAX_CALLS = 16


def describe_fault(error: Exception, engine: str, operation: str) -> str:
    """Return the message for an unexpected exception of an engine.

    Args:
        error: the exception that its class raised.
        engine: its name in ``llm.engine``.
        operation: the worker's command that failed.
    """
    what = f"{operation}() of engine {engine!r} failed"
    if operation == "load":
        what = f"engine {engine!r} could not be started"
    if operation == "configure":
        what = f"engine {engine!r} could not take other settings"
    return f"{what}: {describe_exception(error)}{_trace(error)}"


def is_of_imports(error: AttributeError | ImportError, command: dict[str, Any]) -> bool:
    """Whether an engine's constructor failed because a library is missing or of another version.

    Args:
        error: what the constructor raised.
        command: the worker's ``load`` command.
    """
    if isinstance(error, ImportError):
        return True
    return bool(command["package"]) and isinstance(error.obj, ModuleType)


def import_fault(error: Exception, command: dict[str, Any]) -> EngineLoadError:
    """Build the error for an engine whose class, or a library that it uses, can't be imported.

    Args:
        error: what the import raised.
        command: the worker's ``load`` command.
    """
    engine, package = command["engine"], command["package"]
    if isinstance(error, AttributeError) and package:
        return EngineLoadError(
            f"engine {engine!r} in {sys.executable} lacks something this plugin needs ({error}); "
            f"{package} is too old or too new for it"
        )
    text = f"engine {engine!r} could not be imported in {sys.executable}: "
    if isinstance(error, AttributeError):
        return EngineLoadError(
            f"{text}{command['class']}: {describe_exception(error)}; fix or uninstall the package "
            "that provides it"
        )
    from pytest_llmperf.engine.import_hint import import_hint

    hint = import_hint(str(error))
    return EngineLoadError(f"{text}{error}" + (f"\nhint: {hint}" if hint else ""))


def checked_info(info: Any, engine: str) -> dict[str, Any]:
    """Return the result of an engine's ``info()`` if it can be sent to the plugin.

    Raises:
        EngineLoadError: it is no dict of plain JSON types.
    """
    wrong = f"info() of engine {engine!r} must return a dict of plain JSON types"
    if not isinstance(info, dict):
        raise EngineLoadError(f"{wrong}, with engine_version at least; got {describe_object(info)}")
    for key, value in info.items():
        try:
            json.dumps({key: value})
        except (TypeError, ValueError) as error:
            raise EngineLoadError(f"{wrong}; {key!r} is {describe_object(value)}") from error
    return info


def check_generation(generation: Any, request: Request, engine: str) -> None:
    """Check the answer of an engine's ``generate()``.

    Raises:
        EngineError: it is not what ``generate()`` has to return.
    """
    problem = _problem(generation, request)
    if problem is not None:
        raise EngineError(f"generate() of engine {engine!r} {problem}")


def _problem(generation: Any, request: Request) -> str | None:
    if not isinstance(generation, Generation):
        return f"must return a Generation; got {describe_object(generation)}"
    if (wrong := _wrong_part(generation)) is not None:
        return f"returned a Generation with a wrong part: {wrong}"
    timeline = generation.timeline
    times, ids = timeline.output_tokens, len(generation.token_ids)
    if ids not in (0, times):
        return (
            f"returned {ids} token ids and the times of {times} tokens; its timeline needs one "
            "time for each output token"
        )
    limit = request.max_tokens
    if limit is None or times == limit:
        return None
    if times > limit:
        return f"returned {times} tokens, and {limit} were requested; stop at request.max_tokens"
    if generation.finish_reason == "length":
        return (
            f"returned the times of {times} tokens, {limit} were requested, and its finish_reason "
            "is 'length'; the timeline needs one time for each output token, and 'length' means "
            "that all of them were generated"
        )
    return None


def _wrong_part(generation: Generation) -> str | None:
    """Return the first attribute of a wrong type, with the expected one; None if all fit."""
    whole: Any = generation
    timeline = whole.timeline
    if not isinstance(timeline, Timeline):
        return f"timeline: expected a Timeline, got {describe_object(timeline)}"
    reasons, modes = get_args(FinishReason), get_args(CacheMode)
    prompt, times, tokens = whole.prompt_token_ids, timeline.token_times, timeline.tokens
    counts = (
        timeline.prompt_tokens,
        timeline.prompt_tokens_evaluated,
        timeline.prompt_tokens_cached,
    )
    counts_fit = _all_are(int, [number for number in counts if number is not None])
    tokens_fit = tokens is None or _all_are(int, [tokens])
    ids = "a tuple of integers"
    parts = (
        ("text", whole.text, isinstance(whole.text, str), "text"),
        ("token_ids", whole.token_ids, _all_are(int, whole.token_ids), ids),
        ("prompt_token_ids", prompt, _all_are(int, prompt), ids),
        ("finish_reason", whole.finish_reason, whole.finish_reason in reasons, _one_of(reasons)),
        ("cache", whole.cache, whole.cache in modes, _one_of(modes)),
        ("token_times", times, _all_are(float, times), "a tuple of seconds"),
        ("the timeline's counts of prompt tokens", counts, counts_fit, "integers or None"),
        ("the timeline's tokens", tokens, tokens_fit, "an integer or None"),
    )
    for name, value, fits, expected in parts:
        if not fits:
            return f"{name}: expected {expected}, got {describe_object(value)}"
    return None


def _all_are(kind: type[int] | type[float], values: Any) -> bool:
    kinds = (int, float) if kind is float else int
    return isinstance(values, list | tuple) and all(
        isinstance(value, kinds) and not isinstance(value, bool) for value in values
    )


def _one_of(words: tuple[str, ...]) -> str:
    return f"one of {', '.join(map(repr, words))}"


def _trace(error: Exception) -> str:
    """Return the calls inside the engine that led to an exception, if there are several."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not is_ours(one.filename)]
    if len(frames) < 2:
        return ""
    lines = "".join(traceback.format_list(frames[-_MAX_CALLS:])).rstrip("\n").split("\n")
    return "\n" + "\n".join(f"  | {line}" for line in lines)
