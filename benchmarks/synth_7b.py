"""Is a model of 7B's shape written in two minutes and 2 GiB of memory, and does it decode?

    python benchmarks/synth_7b.py [--like qwen2.5-7b] [--quant Q4_K_M] [--tokens 8] [--folder DIR]

``llmperf model synth`` writes the model into a temporary folder, which needs 4.4 GiB of disk, and
llama.cpp loads it and generates a few tokens, both on two cores, however many the machine has.
Printed: the wall time and the peak resident memory of the command, and the speed of the tokens.
Exit status 0 if both limits were kept and every token came; 1 if not; 2 if the model could not be
written or loaded.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from exit_status import exit_with

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.diagnosis.sizes import bytes_text
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.request import Request
from pytest_llmperf.units import format_duration

COMMAND = (sys.executable, "-m", "pytest_llmperf.cli", "model", "synth")
CORES = 2
MAX_SECONDS, MAX_MEMORY = 120.0, 2 << 30
#: Bytes per unit of ru_maxrss, which macOS counts in bytes and Linux in KiB.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
PROMPT = "Hello"


def use_two_cores() -> None:
    """Keep this process and those that it starts on two cores, where the system can do that."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def write_model(like: str, quantization: str, file: Path) -> tuple[float, int]:
    """Run the command; return its wall time in seconds and its peak memory in bytes.

    Raises:
        ModelError: it failed; it has printed why.
    """
    words = ["--like", like, "--quant", quantization, "--out", str(file)]
    began = time.monotonic()
    with subprocess.Popen([*COMMAND, *words]) as process:
        # Unlike Popen.wait, this reports what the process used.
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ModelError(like, f"llmperf model synth ended with status {process.returncode}")
    return seconds, used.ru_maxrss * _RSS_UNIT


def generate(file: Path, tokens: int) -> Generation:
    """Load the model, and return a short answer.

    Raises:
        EngineError: it can't be loaded, or does not generate.
    """
    both = {"n_threads": CORES, "n_threads_batch": CORES}
    llm = LlamaCppConfig.model_validate({"n_ctx": 512, "n_gpu_layers": 0, **both})
    client = EngineClient.start(LaunchSpec("llama_cpp", llm.resolved(file)))
    try:
        return client.request(Request(prompt=PROMPT, max_tokens=tokens))
    finally:
        client.close()


def main() -> int:
    """Write the model, let it answer, and print both."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--like", default="qwen2.5-7b", help="a preset (default: qwen2.5-7b)")
    parser.add_argument("--quant", default="Q4_K_M", help="(default: Q4_K_M)")
    parser.add_argument("--tokens", type=whole_number(2), default=8, help="of the answer")
    parser.add_argument("--folder", type=Path, help="that has the disk space")
    arguments = parser.parse_args()
    use_two_cores()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="llmperf-") as folder:
        file = Path(folder) / "model.gguf"
        seconds, memory = write_model(arguments.like, arguments.quant, file)
        size = file.stat().st_size
        answer = generate(file, arguments.tokens)
    written = seconds <= MAX_SECONDS and memory <= MAX_MEMORY
    print(
        f"{arguments.like} {arguments.quant}: {bytes_text(size)} in {format_duration(seconds)}, "
        f"with at most {bytes_text(memory)} of memory; asked: {format_duration(MAX_SECONDS)}, "
        f"{bytes_text(MAX_MEMORY)}: {'kept' if written else 'NOT kept'}"
    )
    print(
        f"{answer.output_tokens} of {arguments.tokens} tokens, "
        f"{answer.metrics['tokens_per_sec']:.2f} tokens/s on {CORES} threads"
    )
    return 0 if written and answer.output_tokens == arguments.tokens else 1


if __name__ == "__main__":
    exit_with(main, EngineError, ModelError)
