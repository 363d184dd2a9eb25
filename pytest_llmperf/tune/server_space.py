"""Check whether a configuration can be searched; of a server, only arguments the user names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.config.cell_settings import WrongSettingError, with_settings
from pytest_llmperf.config.server_section import ServerPart
from pytest_llmperf.config.tune_section import EXTRA

if TYPE_CHECKING:
    from pytest_llmperf.session.setup import EngineSetup

_EXAMPLES = (
    "name arguments of its command in tune.space, such as {extra.parallel: [1, 2, 4], "
    "extra.batch-size: [512, 2048], extra.cache-type-k: [f16, q8_0]} for llama-server, or "
    "{extra.max-num-seqs: [64, 256], extra.gpu-memory-utilization: [0.8, 0.9]} for vLLM"
)


def space_problem(setup: EngineSetup) -> str:
    """Return why this configuration can't be searched; empty if it can."""
    llm, tune = setup.llm, setup.loaded.config.tune
    if llm.kind.uses_llama_settings:
        return ""
    if not isinstance(llm, ServerPart):
        return (
            f"llm.engine: {llm.engine} does not use the settings that llmperf tune changes; set "
            "llm.engine: llama_cpp, or server with llm.start"
        )
    if llm.start is None:
        return (
            "llmperf tune must restart the server with different arguments, but llm.url names a "
            "running server; start the server with llm.start instead"
        )
    if tune.models:
        return "tune.models: a server loads the model that its command names; remove tune.models"
    if foreign := [key for key in tune.space if not key.startswith(EXTRA)]:
        return f"tune.space: {', '.join(foreign)}: not an argument of a server; {_EXAMPLES}"
    if not tune.space:
        return f"llmperf tune does not know what arguments the server takes; {_EXAMPLES}"
    for key, values in tune.space.items():
        for value in values:
            try:
                with_settings(llm, {key: value})
            except WrongSettingError as error:
                return f"tune.space: {error}"
    return ""
