"""Prompts that no server has in its cache: each begins with different words of equal length."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pytest_llmperf.engine.server.answer import ServerRequest

#: Whether a server may take prompts from its cache. ``shared``: yes. ``off``: it is told not to,
#: which llama.cpp's supports. ``unique``: it can't, because no two prompts begin alike.
CacheUse = Literal["shared", "off", "unique"]

#: Each word, with the space before it, is a single token in the vocabularies of common models. All
#: have four letters, so that they are equally long for a tokenizer of bytes or letters, too.
_WORDS = (
    *("time", "year", "life", "hand", "part", "case", "week", "work"),
    *("fact", "home", "room", "area", "book", "word", "side", "kind"),
    *("head", "line", "name", "team", "body", "door", "face", "food"),
    *("game", "idea", "road", "city", "king", "girl", "mind", "tree"),
)
#: Number of words in front of a prompt: 40 bits, so two equal beginnings are next to impossible.
_COUNT = 8


def with_cache_use(request: ServerRequest, use: CacheUse, draw: random.Random) -> ServerRequest:
    """Return the request in the form that gives this use of the server's cache."""
    if use == "shared":
        return request
    if use == "off":
        return replace(request, body={**request.body, "cache_prompt": False})
    return with_unique_prompt(request, draw)


def with_unique_prompt(request: ServerRequest, draw: random.Random) -> ServerRequest:
    """Return the request with random words, or tokens of the prompt itself, before its prompt.

    A prefix cache serves only the common beginning of two prompts, so only the head of a chat
    template, before the first message, can come from it.
    """
    words = " ".join(draw.choices(_WORDS, k=_COUNT))
    if isinstance(request.prompt, str):
        return replace(request, prompt=f"{words} {request.prompt}")
    if request.prompt:
        tokens = sorted(set(request.prompt))
        return replace(request, prompt=(*draw.choices(tokens, k=_COUNT), *request.prompt))
    first, *others = request.messages or ({},)
    return replace(request, messages=(_with_words(first, words), *others))


def _with_words(message: Mapping[str, Any], words: str) -> Mapping[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": f"{words} {content}"}
    if isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": words}, *content]}
    return message
