"""What a user of llama-cpp-python sees: ``create_completion(stream=True)``, timed at its chunks.

Runs in the environment under test; takes one JSON object of settings as its
argument and prints one JSON object: per repetition the decode and the
first-chunk rate in tokens per second.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import llama_cpp


def measure(llm: Any, prompt: list[int], max_tokens: int) -> dict[str, float]:
    """Run one completion; return its rates, tokens per second, and its number of tokens.

    A chunk may hold several tokens (a character split over two of them), so
    tokens are counted by how many the context holds when a chunk arrives.
    """
    llm.reset()
    llm._ctx.kv_cache_clear()
    started = time.perf_counter()
    arrivals = []
    for chunk in llm.create_completion(prompt, max_tokens=max_tokens, temperature=0.0, stream=True):
        if chunk["choices"][0]["finish_reason"] is None:
            arrivals.append((time.perf_counter(), llm.n_tokens))
    (first, start_count), (last, end_count) = arrivals[0], arrivals[-1]
    return {
        "decode": (end_count - start_count) / (last - first),
        "prefill": len(prompt) / (first - started),
        "tokens": end_count - start_count + 1,
    }


def main() -> None:
    """Load, warm up once, measure."""
    settings = json.loads(sys.argv[1])
    llm = llama_cpp.Llama(settings["model_path"], verbose=False, **settings["arguments"])
    prompt, max_tokens = settings["prompt"], settings["max_tokens"]
    measure(llm, prompt, max_tokens)
    runs = [measure(llm, prompt, max_tokens) for _ in range(settings["repetitions"])]
    print(json.dumps(runs))


if __name__ == "__main__":
    main()
