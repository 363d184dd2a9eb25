"""One load of the embedded model on the device, small enough for a software one."""

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
    """One finished load: what the plugin says of it, and what llama.cpp logged."""

    info: EngineInfo
    log: list[str]

    @property
    def gpu(self) -> GpuUtilization:
        assert self.info.gpu is not None
        return self.info.gpu

    def logged(self, words: str) -> list[str]:
        return [line for line in self.log if words in line]
