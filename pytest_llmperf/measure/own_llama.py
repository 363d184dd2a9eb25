"""Detection of tests that build a ``llama_cpp.Llama`` instead of using ``llm_engine``."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any


class OwnLlama:
    """Result of ``watch_own_llama``: whether a ``Llama`` was built in this process."""

    def __init__(self) -> None:
        self.built = False


@contextlib.contextmanager
def watch_own_llama() -> Iterator[OwnLlama]:
    """Watch for ``llama_cpp.Llama(...)`` in this process; never imports llama_cpp itself."""
    seen = OwnLlama()
    module = sys.modules.get("llama_cpp")
    if module is None or not hasattr(module, "Llama"):
        try:
            yield seen
        finally:
            # Imported during the watch: its class knows whether it was ever instantiated.
            llama = getattr(sys.modules.get("llama_cpp"), "Llama", None)
            seen.built = bool(getattr(llama, "_Llama__backend_initialized", False))
        return
    llama = module.Llama
    original = llama.__init__

    @functools.wraps(original)
    def counting(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.built = True
        original(self, *args, **kwargs)

    llama.__init__ = counting
    try:
        yield seen
    finally:
        llama.__init__ = original
