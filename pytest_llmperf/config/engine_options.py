"""Checks ``llm.extra``, the options specific to an engine of another package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pytest_llmperf.engine_kinds import EngineKind


def check_options(
    kind: EngineKind, extra: Mapping[str, Any]
) -> tuple[dict[str, Any], list[tuple[tuple[str, ...], str, Any]]]:
    """Return ``llm.extra`` with defaults, and its problems: (path in it, message, value).

    If the engine's kind has a pydantic model of its options, they are checked and completed with
    their defaults; otherwise they are passed as written.
    """
    if kind.options is None:
        return dict(extra), []
    try:
        options = kind.options.model_validate(dict(extra))
    except ValidationError as error:
        return dict(extra), [_refused(dict(item), kind.name) for item in error.errors()]
    return options.model_dump(mode="json"), []


def _refused(item: dict[str, Any], engine: str) -> tuple[tuple[str, ...], str, Any]:
    key, inside = tuple(map(str, item["loc"][:1])), ".".join(map(str, item["loc"][1:]))
    if item["type"] == "missing":
        return key, f"the {engine} engine needs {inside or 'it'}, and it is missing", None
    if item["type"] == "extra_forbidden" and not inside:
        return key, f"the {engine} engine takes no such option", item["input"]
    message = f"{inside}: {item['msg']}" if inside else str(item["msg"])
    return key, f"{message} (an option of the {engine} engine)", item["input"]
