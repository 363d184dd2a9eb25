"""Stored engine settings: the values of ``llm.extra`` are replaced by hashes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from pytest_llmperf.config.extra_hashes import EXTRA_HASHES, without_extra_values
from pytest_llmperf.stored_json import unexpected


def _read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check ``extra`` and hash the plain values that older files have."""
    extra, hashes = settings.get("extra"), settings.get(EXTRA_HASHES, {})
    if not isinstance(extra, dict | None):
        raise unexpected("an object", extra, "extra")
    if not isinstance(hashes, dict):
        raise unexpected("an object", hashes, EXTRA_HASHES)
    for key, digest in hashes.items():
        if not isinstance(digest, str):
            raise unexpected("a string", digest, EXTRA_HASHES, key)
    return without_extra_values(settings)


Settings = Annotated[Mapping[str, Any], AfterValidator(_read)]
