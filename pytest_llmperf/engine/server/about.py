"""A server's account of itself: its model and its build."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pytest_llmperf.engine.server.settings import ServerSettings

if TYPE_CHECKING:
    import aiohttp

_TIMEOUT_S = 5.0
#: Build of a server that does not report it.
UNKNOWN_BUILD = "unknown build"


class ServerDescription(NamedTuple):
    """A server's account of itself.

    Attributes:
        model: name of the model in use.
        build: build of the server's program; empty if not reported.
        is_llama_cpp: whether it is llama.cpp's own server.
        parameters, model_bytes, n_ctx: sizes of the model and its context; 0 if not reported.
        quantization: quantization of the model; empty if not reported.
        slots: number of requests that it computes at once; 0 if not reported.
    """

    model: str
    build: str
    is_llama_cpp: bool
    parameters: int
    model_bytes: int
    n_ctx: int
    quantization: str
    slots: int = 0

    @property
    def identity(self) -> str:
        """Name of the model, with details that tell it from another model of that name."""
        parts = [self.model, self.quantization]
        parts += [f"{self.parameters} parameters"] if self.parameters else []
        parts += [f"{self.model_bytes} bytes"] if self.model_bytes else []
        return ", ".join(filter(None, parts))


async def status_of(url: str, proxy: str | None = None) -> int | None:
    """Return the HTTP status of a GET request; None without an answer."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(url, proxy=proxy) as response:
                return response.status
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
        return None


async def ask_for_description(
    settings: ServerSettings, answered_model: str | None, fingerprint: str | None
) -> ServerDescription:
    """Ask a server about itself; details that it does not report stay empty.

    Args:
        settings: settings of the client.
        answered_model, fingerprint: model and fingerprint that an answer of the server stated.
    """
    import aiohttp

    root = root_of(settings.url)
    headers = {**settings.headers, **settings.secret_headers()}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        paths = ("props", "v1/models", "version")
        asking = (_json(session, f"{root}/{path}", settings.proxy) for path in paths)
        props, models, version = await asyncio.gather(*asking)
    entry = _entry(models.get("data"), settings.model or answered_model)
    details = entry.get("meta")
    meta: Mapping[str, Any] = details if isinstance(details, dict) else {}
    build = fingerprint or _text(props.get("build_info")) or _text(version.get("version"))
    model = answered_model or settings.model or _text(entry.get("id")) or "unnamed model"
    return ServerDescription(
        model=PurePath(model).name if PurePath(model).is_absolute() else model,
        build=build,
        is_llama_cpp="default_generation_settings" in props,
        parameters=_whole(meta.get("n_params")),
        model_bytes=_whole(meta.get("size")),
        n_ctx=_whole(meta.get("n_ctx")) or _whole(entry.get("max_model_len")),
        quantization=_text(meta.get("ftype")) or _text(props.get("model_ftype")),
        slots=_whole(props.get("total_slots")),
    )


def root_of(url: str) -> str:
    """Return the root of a server from its root, its ``/v1`` or its complete endpoint."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    for end in ("/completions", "/chat", "/v1"):
        path = path.removesuffix(end)
    return urlunsplit(parts._replace(path=path, query="", fragment=""))


async def _json(session: aiohttp.ClientSession, url: str, proxy: str | None) -> Mapping[str, Any]:
    """Return the JSON object at a URL; empty if there is none."""
    import aiohttp

    try:
        async with session.get(url, allow_redirects=False, proxy=proxy) as response:
            data = await response.json(content_type=None) if response.status == 200 else None
    except (aiohttp.ClientError, OSError, ValueError, asyncio.TimeoutError):
        return {}
    return data if isinstance(data, dict) else {}


def _entry(models: object, name: str | None) -> Mapping[str, Any]:
    entries = [m for m in models if isinstance(m, dict)] if isinstance(models, list) else []
    named = [entry for entry in entries if entry.get("id") == name]
    return next(iter(named or entries[:1]), {})


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
