"""Reads from llama.cpp's load log how settings that decide speed took effect.

Source: the log lines of ``llama_context`` and ``load_tensors`` in llama.cpp's
src/llama-context.cpp and src/llama-model.cpp. A setting that this version of
llama.cpp does not print stays unknown (None).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FLASH = re.compile(r"\bflash_attn\s*=\s*(\w+)")
_FLASH_CHOSEN = re.compile(r"Flash Attention was auto, set to (\w+)")
_MAPPED = re.compile(r"\S+_Mapped model buffer size")
_LOADED = re.compile(r"\S+\s+model buffer size")
_ON = frozenset({"enabled", "1", "true", "on"})
_OFF = frozenset({"disabled", "0", "false", "off"})


def read_load_facts(lines: Iterable[str]) -> dict[str, bool | None]:
    """Return whether ``flash_attn`` and ``use_mmap`` took effect in a load; None if unknown."""
    flash: bool | None = None
    loaded = mapped = False
    for line in lines:
        if match := _FLASH_CHOSEN.search(line) or _FLASH.search(line):
            word = match[1].lower()
            flash = True if word in _ON else False if word in _OFF else None
        loaded = loaded or _LOADED.search(line) is not None
        mapped = mapped or _MAPPED.search(line) is not None
    return {"flash_attn": flash, "use_mmap": mapped if loaded else None}
