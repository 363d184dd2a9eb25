"""The table of tools whose results can be imported, and which of them wrote a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_llmperf.importers.aiperf import AiPerf
from pytest_llmperf.importers.guidellm import GuideLlm
from pytest_llmperf.importers.llama_bench import LlamaBench
from pytest_llmperf.importers.protocol import Importer, LayoutError
from pytest_llmperf.importers.pytest_benchmark import PytestBenchmark
from pytest_llmperf.importers.sglang import Sglang
from pytest_llmperf.importers.vllm import Vllm

#: One importer for each tool; the first that recognises a file reads it.
TOOLS: tuple[Importer, ...] = (
    LlamaBench(),
    Vllm(),
    Sglang(),
    GuideLlm(),
    AiPerf(),
    PytestBenchmark(),
)


def importer_of(documents: Sequence[Any], tool: str | None) -> Importer:
    """Return the importer of the tool that wrote a file, or of the tool that the user names.

    Raises:
        LayoutError: no importer, or not the named tool's, recognises the file.
    """
    for importer in TOOLS:
        if tool in (None, importer.tool) and importer.recognises(documents):
            return importer
    wanted = [importer for importer in TOOLS if tool in (None, importer.tool)]
    looked = "\n".join(f"    {importer.tool}: {importer.signs}" for importer in wanted)
    raise LayoutError(
        f"not a result file of {tool or 'any known tool'}; recognised are:\n{looked}",
        "name the file that one of these wrote: "
        + "; ".join(importer.written_by for importer in wanted),
    )
