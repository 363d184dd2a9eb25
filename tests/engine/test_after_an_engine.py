"""What a closed engine leaves behind in its process."""

from __future__ import annotations

import json
import subprocess
import sys

from small_specs import small_spec
from tiny_models import tiny_llama

#: Closes an engine, reuses its memory, and loads the model again, which llama.cpp logs.
PROGRAM = """
import gc, json, sys
import llama_cpp
from pytest_llmperf.engine.llama_cpp import LlamaCppEngine
config = json.loads(sys.argv[1])
engine = LlamaCppEngine(config)
engine.close()
del engine
gc.collect()
others = [llama_cpp.llama_log_callback(lambda *_: None) for _ in range(50)]
del others
gc.collect()
llama_cpp.Llama(config["model_path"], n_ctx=64)
print("loaded")
"""


def test_llama_cpp_calls_nothing_of_an_engine_that_was_closed() -> None:
    config = small_spec(tiny_llama(), n_ctx=64).config
    command = [sys.executable, "-c", PROGRAM, json.dumps(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "loaded\n"), ended.stderr[-500:]
