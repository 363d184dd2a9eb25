"""Validates engine settings on top of a valid configuration, such as a sweep's cells."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pytest_llmperf.config.error_messages import error_messages
from pytest_llmperf.config.llm_section import LLM_FIELDS, LlmConfig
from pytest_llmperf.config.schema import Config
from pytest_llmperf.config.server_section import ServerPart

_EXTRA = "extra."
_SAME_WORK = "it decides what is asked, and the cells of a sweep do the same work"
_NO_SPEED = "it does not affect speed"
#: Settings that can't differ within a session, and why.
_FIXED = {
    "engine": "a session has one engine",
    "target": "a session has one engine; name another target with --llmperf-set llm.target=...",
    "model_path": (
        "a session has one model, whose bytes decide which baselines match; name another one with "
        "--llmperf-set llm.model_path=..."
    ),
    "extra": "name its arguments one by one: **{'extra.rope_freq_base': [10000.0, 20000.0]}",
    "url": "a session has one server; name another one with --llmperf-set llm.url=...",
    "replicas": "a session has one server; name others with --llmperf-set llm.replicas=...",
    "routing": "a session has one server; name another with --llmperf-set llm.routing=...",
    "model": "a session has one model; name another one with --llmperf-set llm.model=...",
    "api": f"{_SAME_WORK}; set it in config.yaml",
    "api_key_env": _NO_SPEED,
    "header_env": _NO_SPEED,
    "headers": f"{_SAME_WORK}; set it in config.yaml",
    "cache": f"{_SAME_WORK}; set it in config.yaml",
    "idle_timeout": _NO_SPEED,
    "proxy_from_environment": "a session has one way to its server; set it in config.yaml",
    "client_processes": _NO_SPEED,
    "max_tokens": f"{_SAME_WORK}; parametrize the test, and pass max_tokens= to the engine",
    "chat_format": f"{_SAME_WORK}; set it in config.yaml",
    "seed": f"{_SAME_WORK}; pass seed= to the engine",
    "load_timeout": _NO_SPEED,
    "generation_timeout": _NO_SPEED,
}


class WrongSettingError(Exception):
    """A setting's name or value is not valid; the message begins with the name."""


class ImpossibleSettingsError(Exception):
    """Settings are valid one by one but not together; the message says why."""


def check_name(llm: LlmConfig, name: str) -> None:
    """Check that tests of one session may have different values of a setting.

    Raises:
        WrongSettingError: there is no such setting, or it applies to the whole session.
    """
    if name in _FIXED:
        raise WrongSettingError(f"{name}: {_FIXED[name]}")
    is_extra = name.startswith(_EXTRA) and name != _EXTRA
    if not is_extra and name not in LLM_FIELDS:
        raise WrongSettingError(f"{name}: unknown setting{_nearest(name)}")
    if llm.kind.needs == "target":
        raise WrongSettingError(
            f"{name}: engine {llm.engine} does not pass settings of llm on to the application; "
            "parametrize the test instead, or set llm.engine: llama_cpp"
        )
    of_server = isinstance(llm, ServerPart) and name in ServerPart.model_fields
    if not is_extra and not of_server and not llm.kind.uses_llama_settings:
        raise WrongSettingError(
            f"{name}: the engine {llm.engine} does not use it; its own options are named like "
            "**{'extra.NAME': [...]}"
        )


def with_settings(llm: LlmConfig, settings: Mapping[str, Any]) -> LlmConfig:
    """Return engine settings with others on top; ``extra.NAME`` is an argument in ``extra``.

    Raises:
        WrongSettingError: a setting can't have its new value.
        ImpossibleSettingsError: the values can't be combined, or not with the other settings.
    """
    # Without defaults: as explicit values, they might contradict a setting on top.
    tree = llm.model_dump(mode="json", exclude_unset=True)
    tree["extra"] = dict(llm.extra)
    for name, value in settings.items():
        if name.startswith(_EXTRA):
            tree["extra"][name.removeprefix(_EXTRA)] = value
        else:
            tree[name] = value
    try:
        return Config.model_validate({"llm": tree}).llm
    except ValidationError as error:
        texts = [
            f"{'.'.join(map(str, path[1:]))}: {text}"
            for path, text in error_messages(error, {"llm": tree})
        ]
        if any(_is_of_one(item) for item in error.errors(include_url=False)):
            raise WrongSettingError("\n".join(texts)) from None
        raise ImpossibleSettingsError("; ".join(texts)) from None


def _is_of_one(item: Any) -> bool:
    """Whether an error is about a single value, not about a combination of values."""
    return item["type"] != "llmperf" or "extra" in item["loc"]


def _nearest(name: str) -> str:
    known = [field for field in LLM_FIELDS if field not in _FIXED]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"
