"""Prompts that no server has in its cache: each begins with other words, of the same length."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pytest_llmperf.engine.server.answer import ServerRequest

#: Whether a server may take prompts from its cache: ``shared``: yes; ``off``: it is told not to, as
#: llama.cpp's can be; ``unique``: no two begin alike.
CacheUse = Literal["shared", "off", "unique"]

#: Each is a single token in the vocabularies of common models, with the space before it. All have
#: four letters, so that they are of equal length for a tokenizer of bytes or letters, too.
_WORDS = (
    *("time", "year", "life", "hand", "part", "case", "week", "work"),
    *("fact", "home", "room", "area", "book", "word", "side", "kind"),
    *("head", "line", "name", "team", "body", "door", "face", "food"),
    *("game", "idea", "road", "city", "king", "girl", "mind", "tree"),
)
#: 40 bits: two prompts alike are as good as impossible.
_COUNT = 8


def with_cache(request: ServerRequest, use: CacheUse, draw: random.Random) -> ServerRequest:
    """Return the request in a form that makes this use of the server's cache."""
    if use == "shared":
        return request
    if use == "off":
        return replace(request, body={**request.body, "cache_prompt": False})
    return made_unique(request, draw)


def made_unique(request: ServerRequest, draw: random.Random) -> ServerRequest:
    """Return the request with drawn words, or tokens of its own, in front of its prompt.

    A prefix cache serves what two prompts have in common from their beginning on, so only the
    head of a chat template, before the first message, can come from it.
    """
    words = " ".join(draw.choices(_WORDS, k=_COUNT))
    if isinstance(request.prompt, str):
        return replace(request, prompt=f"{words} {request.prompt}")
    if request.prompt:
        own = sorted(set(request.prompt))
        return replace(request, prompt=(*draw.choices(own, k=_COUNT), *request.prompt))
    first, *others = request.messages or ({},)
    return replace(request, messages=(_with_words(first, words), *others))


def _with_words(message: Mapping[str, Any], words: str) -> Mapping[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": f"{words} {content}"}
    if isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": words}, *content]}
    return message
