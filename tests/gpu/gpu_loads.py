"""A load of the embedded model, small enough for a software device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_llmperf.config.embedded import cache_dir
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.load_report import GpuUtilization

SMALL: dict[str, Any] = {
    "n_ctx": 256,
    "n_batch": 64,
    "n_ubatch": 64,
    "max_tokens": 2,
    "n_threads": 1,
    "n_threads_batch": 1,
}
CACHE = cache_dir()


@dataclass(frozen=True)
class Load:
    """A finished load: the plugin's report of it, and llama.cpp's log."""

    info: EngineInfo
    log: list[str]

    @property
    def gpu(self) -> GpuUtilization:
        assert self.info.gpu is not None
        return self.info.gpu

    def logged(self, words: str) -> list[str]:
        return [line for line in self.log if words in line]
