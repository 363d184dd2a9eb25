"""The reference of ``config.yaml``: every key with its type, default and meaning."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pytest_llmperf.config.fields import Expected
from pytest_llmperf.config.llm_section import AppConfig, LlamaCppConfig, LlmConfig, ServerConfig
from pytest_llmperf.config.schema import Config

#: The engines with keys of their own.
_ENGINES: dict[str, type[LlmConfig]] = {
    "llama_cpp": LlamaCppConfig,
    "app": AppConfig,
    "server": ServerConfig,
}
_HEAD = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]


def configuration() -> list[str]:
    """Return the lines of a section with a table for each section of the file."""
    lines: list[str] = []
    for section, field in Config.model_fields.items():
        model = _model(field)
        lines += [f"## {section}", "", field.description or "", ""]
        lines += [*_HEAD, *("| " + " | ".join(row) + " |" for row in _rows(model, f"{section}."))]
        lines += [""]
        if section == "llm":
            for engine in _ENGINES:
                rows = ["| " + " | ".join(row) + " |" for row in _own_rows(engine)]
                lines += [f"### Engine {engine}", "", *_HEAD, *rows, ""]
    return lines


def _own_rows(engine: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield the keys that only this engine has."""
    return _rows(_ENGINES[engine], "llm.", LlmConfig.model_fields)


def undescribed() -> list[str]:
    """Return the keys without a description."""
    rows = [row for name, field in Config.model_fields.items()
            for row in _rows(_model(field), f"{name}.")]  # fmt: skip
    rows += [row for engine in _ENGINES for row in _own_rows(engine)]
    return [row[0] for row in rows if not row[-1]]


def _rows(
    model: type[BaseModel], prefix: str, left_out: Container[str] = ()
) -> Iterator[tuple[str, str, str, str]]:
    for key, field in model.model_fields.items():
        if key in left_out:
            continue
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _rows(inner, f"{prefix}{key}.")
            continue
        words = _expected(field)
        description = (field.description or "").replace("|", "\\|")
        yield f"`{prefix}{key}`", words, f"`{_default(field, words)}`", description


def _model(field: FieldInfo) -> type[BaseModel]:
    assert isinstance(field.annotation, type)
    assert issubclass(field.annotation, BaseModel)
    return field.annotation


def _expected(field: FieldInfo) -> str:
    """Return the words that an error message uses for a valid value."""
    words = [item.words for item in _metadata(field) if isinstance(item, Expected)]
    if not words:
        raise AssertionError(f"no Expected in {field!r}")
    return words[0]


def _metadata(node: Any) -> Iterator[Any]:
    """Yield the annotations of a field, also inside ``X | None``."""
    yield from getattr(node, "metadata", ())
    for part in (getattr(node, "annotation", None), *getattr(node, "__args__", ())):
        if part is not None and part is not node:
            yield from getattr(part, "__metadata__", ())
            yield from _metadata(part)


def _default(field: FieldInfo, words: str) -> str:
    """Return the default as it is written in the file."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if words.startswith("a duration"):
        return f"{value / 60:g}m" if value % 60 == 0 else f"{value:g}s"
    if words.startswith("a percentage"):
        return f"{100 * value:g}%"
    return str(value)
