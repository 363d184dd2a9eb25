"""The three ways one setting is measured: llama-bench, our engine, and llama-cpp-python's stream.

Each call is one fresh process and returns the median of its repetitions, in
tokens per second. What the first two have in common, according to llama-bench's source:

- prefill: ``-p P -n 0`` evaluates P tokens into an empty cache in batches of
  ``n_batch``, one row of logits wanted, and reads the clock after
  ``llama_synchronize``;
- decode: ``-n N -d P`` decodes N tokens one by one, the first at position P, with
  a ``llama_synchronize`` after each. Our engine's tokens 2..n of a prompt of P
  tokens are n - 1 decodes at positions P..P+n-2, hence ``-n n-1 -d P``. Ours
  also samples every token; llama-bench draws a random one;
- state: from its second repetition on, llama-bench restores the prompt's cache from a
  saved copy instead of evaluating it, ours evaluates it every time. A depth it has
  not just saved is evaluated, so each repetition gets a depth of its own: P - 1, P,
  P + 1 for three;
- context: llama-bench takes P + N + depth cells, and llama.cpp rounds up to 256.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tools_env import ROOT, ToolsEnvironment

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.request import Request
from pytest_llmperf.metrics import compute_all
from pytest_llmperf.run import Run

#: llama.cpp rounds a context up to a multiple of this (llama-context.cpp).
_CONTEXT_STEP = 256

#: Ordinary prose, so that no side meets an early end of sequence.
_TEXT = """The keeper of the lighthouse wrote down the weather every evening. In spring the wind
came from the west and smelled of rain; in summer it hardly came at all, and the sea lay flat like
a sheet of tin. When the supply boat was late he read the old pages again, comparing one year with
another, and found that the storms kept an order that nobody on the mainland had noticed. He drew a
curve through them, then a second one, and began to write a long letter to the harbour master. """


@dataclass(frozen=True)
class Setting:
    """Settings that all sides share.

    Attributes:
        model: the GGUF file.
        threads: for prefill and decode.
        prompt_tokens, output_tokens: P and n.
        n_batch, n_ubatch, flash_attn: as in ``config.yaml``.
        repetitions: measured in one process, after one warm-up.
    """

    model: Path
    threads: int
    prompt_tokens: int
    output_tokens: int
    n_batch: int
    n_ubatch: int
    flash_attn: bool
    repetitions: int

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache, the same for every side."""
        return _rounded(self.prompt_tokens + self.output_tokens)

    @property
    def depths(self) -> tuple[int, ...]:
        """One KV depth per repetition, P on average (for an odd number of them)."""
        first = self.prompt_tokens - self.repetitions // 2
        return tuple(range(first, first + self.repetitions))

    def check(self) -> None:
        """Refuse settings for which llama-bench's two contexts would differ in size from ours.

        Raises:
            ValueError: they would differ; the message has a prompt length that fits.
        """
        if min(self.prompt_tokens, self.repetitions) < 1 or self.output_tokens < 2:
            raise ValueError("need at least 1 prompt token, 2 output tokens and 1 repetition")
        deepest = max(self.depths) + self.output_tokens - 1
        if _rounded(self.prompt_tokens) != self.n_ctx or _rounded(deepest) != self.n_ctx:
            fits = self.n_ctx - self.output_tokens - self.repetitions // 2
            raise ValueError(
                f"with a prompt of {self.prompt_tokens} tokens llama-bench's contexts differ from "
                f"our {self.n_ctx} cells; use --prompt {fits}"
            )


@dataclass(frozen=True)
class Rates:
    """Medians of one process, tokens per second; ``raw`` holds every repetition."""

    decode: float
    prefill: float
    raw: dict[str, list[float]]


def _rates(decode: list[float], prefill: list[float]) -> Rates:
    return Rates(median(decode), median(prefill), {"decode": decode, "prefill": prefill})


def _rounded(tokens: int) -> int:
    return -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP


def run_llama_bench(tools: ToolsEnvironment, setting: Setting) -> Rates:
    """Run llama-bench twice: prefill into an empty cache, decode at the prompt's depth."""
    repeated = ["-r", str(setting.repetitions)]
    prefill = ["-p", str(setting.prompt_tokens), "-n", "0", *repeated]
    depths = ",".join(map(str, setting.depths))
    decode = ["-p", "0", "-n", str(setting.output_tokens - 1), "-d", depths, "-r", "1"]
    return _rates(_llama_bench(tools, setting, decode), _llama_bench(tools, setting, prefill))


def _llama_bench(tools: ToolsEnvironment, setting: Setting, test: list[str]) -> list[float]:
    command = [
        *(str(tools.llama_bench), "-m", str(setting.model), "-o", "json"),
        *("-t", str(setting.threads), "-ngl", "0", "--load-mode", "mmap"),
        *("-b", str(setting.n_batch), "-ub", str(setting.n_ubatch)),
        *("-fa", "on" if setting.flash_attn else "off", *test),
    ]
    env = {**os.environ, "LD_LIBRARY_PATH": tools.library_path}
    samples = [
        float(rate) for row in json.loads(_output(command, env)) for rate in row["samples_ts"]
    ]
    if len(samples) != setting.repetitions:
        raise RuntimeError(f"llama-bench made {len(samples)} samples: {' '.join(command)}")
    return samples


def engine_config(setting: Setting) -> dict[str, Any]:
    """Return the resolved ``llm`` section for the worker."""
    return {
        "model_path": str(setting.model),
        "n_ctx": setting.n_ctx,
        "n_batch": setting.n_batch,
        "n_ubatch": setting.n_ubatch,
        "n_threads": setting.threads,
        "n_threads_batch": setting.threads,
        "use_mmap": True,
        "use_mlock": False,
        "n_gpu_layers": 0,
        "split_mode": "layer",
        "main_gpu": 0,
        "tensor_split": None,
        "flash_attn": setting.flash_attn,
        "type_k": None,
        "type_v": None,
        "offload_kqv": True,
        "chat_format": None,
        "seed": 42,
        "extra": {},
    }


def prompt_ids(tools: ToolsEnvironment, setting: Setting) -> tuple[int, ...]:
    """Return the first P token ids of an ordinary text, as the model's own tokenizer splits it."""
    text = _TEXT * (1 + setting.prompt_tokens // 60)
    config = {**engine_config(setting), "n_ctx": _rounded(len(text))}
    client = EngineClient.start(LaunchSpec("llama_cpp", config, python=str(tools.python)))
    try:
        whole = client.request(Request(prompt=text, max_tokens=1)).prompt_token_ids
    finally:
        client.close()
    return whole[: setting.prompt_tokens]


def run_engine(tools: ToolsEnvironment, setting: Setting, prompt: tuple[int, ...]) -> Rates:
    """Run our engine in a worker of the tools environment, which has llama-bench's own library."""
    spec = LaunchSpec("llama_cpp", engine_config(setting), python=str(tools.python))
    client = EngineClient.start(spec)
    decode, prefill = [], []
    try:
        request = Request(prompt=prompt, max_tokens=setting.output_tokens, ignore_eos=True)
        client.request(request)
        for _ in range(setting.repetitions):
            metrics = compute_all(Run.in_order([client.request(request).timeline]))
            decode.append(metrics["tokens_per_sec"])
            prefill.append(metrics["prefill_tokens_per_sec"])
    finally:
        client.close()
    return _rates(decode, prefill)


def run_streaming(tools: ToolsEnvironment, setting: Setting, prompt: tuple[int, ...]) -> Rates:
    """Run ``create_completion(stream=True)``; prefill is prompt tokens over time to first chunk."""
    arguments = {
        "n_ctx": setting.n_ctx,
        "n_batch": setting.n_batch,
        "n_ubatch": setting.n_ubatch,
        "n_threads": setting.threads,
        "n_threads_batch": setting.threads,
        "n_gpu_layers": 0,
        "flash_attn": setting.flash_attn,
    }
    settings = {
        "model_path": str(setting.model),
        "prompt": prompt,
        "max_tokens": setting.output_tokens,
        "repetitions": setting.repetitions,
        "arguments": arguments,
    }
    worker = ROOT / "benchmarks" / "streaming_worker.py"
    rows = json.loads(_output([str(tools.python), str(worker), json.dumps(settings)], None))
    return _rates([row["decode"] for row in rows], [row["prefill"] for row in rows])


def _output(command: list[str], env: dict[str, str] | None) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-20:])
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}\n{tail}")
    return done.stdout
