"""The environment variables that users set, with their meaning, and those for internal use."""

from __future__ import annotations

#: Variable -> its meaning, as Markdown.
VARIABLES = {
    "LLMPERF_<SECTION>__<KEY>": (
        "a key of [config.yaml](configuration.md), with two underscores between the parts: "
        "`LLMPERF_LLM__N_BATCH=512`. It wins over the file; `--llmperf-set` and `--set` win over it"
    ),
    "LLMPERF_CACHE_DIR": (
        "folder of the cache: models, checkouts, environments and engine builds of other commits, "
        "evidence, studies of `llmperf tune`. Default: `pytest-llmperf` in the user's cache folder "
        "(`~/.cache` on Linux)"
    ),
    "LLMPERF_DEVICE_LOCK": (
        "file that sessions lock while they use the machine, for containers that share a card but "
        "not `/tmp` ([one card, one session](../measuring.md#one-card-one-session))"
    ),
    "CUDA_VISIBLE_DEVICES": (
        "the GPUs that the engine sees; a session locks and watches only these"
    ),
    "GGML_VK_VISIBLE_DEVICES": (
        "the Vulkan devices that llama.cpp uses; `0` makes it use a software device"
    ),
    "CMAKE_ARGS": (
        "flags with which an engine of another commit is built from source. Default: those of the "
        "installed build"
    ),
    "LLAMA_CPP_LIB_PATH": "folder of llama.cpp's libraries, as in llama-cpp-python",
    "NO_COLOR": "any value: no colour in the terminal",
}
#: Variables that the plugin sets for its own processes.
INTERNAL = frozenset(
    {
        "LLMPERF_BASE_ROOT",
        "LLMPERF_CALIBRATIONS_DIR",
        "LLMPERF_IMPORT_ROOTS",
        "PYTEST_LLMPERF_ENGINE",
    }
)
