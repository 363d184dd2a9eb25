"""Record a trace of real engine processes for ``gate_accuracy.py`` to resample.

    python benchmarks/record_trace.py [--processes 60] [--iterations 6] [--output-tokens 64]
        [--file benchmarks/data/gate_trace.json]

Starts one fresh engine process after the other with the settings of ``config.yaml`` (or
their defaults), replays one short request in each from an empty cache, and writes what
every counted iteration measured. Nothing differs between the processes. The file is
written after each of them, so an interrupted recording can be used.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_llmperf.config.errors import ConfigError, ModelError
from pytest_llmperf.config.load import load_config
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.installed import installed_backend
from pytest_llmperf.engine.request import Request
from pytest_llmperf.environment.machine import read_machine
from pytest_llmperf.measure.warmup import is_warm
from pytest_llmperf.metrics import compute_all

#: Metrics a session gates, one per quantity.
METRICS = ("tokens_per_sec", "first_token", "end_to_end")
WARMUP_MAX = 4
DEFAULT = Path(__file__).parent / "data" / "gate_trace.json"
PROMPT = (
    "The keeper of the lighthouse wrote down the weather every evening. In spring the wind came "
    "from the west and smelled of rain; in summer it hardly came at all, and the sea lay flat "
    "like a sheet of tin. When the supply boat was late he read the old pages again, comparing "
    "one year with another, and found that the storms kept an order that nobody on the mainland "
    "had noticed. He drew a curve through them, then a second one, and began to write a letter."
)


def launch_spec(folder: Path) -> LaunchSpec:
    """Return how to start an engine with the settings that hold in ``folder``.

    Raises:
        ConfigError, ModelError: what is wrong with the settings or the model.
    """
    loaded = load_config(None, folder, os.environ)
    llm = loaded.config.llm
    model = resolve_model(llm.model_path, loaded.base_dir)
    return LaunchSpec("llama_cpp", llm.resolved(model), load_timeout=llm.load_timeout)


def replay(client: EngineClient, request: Request) -> dict[str, float]:
    """Run the request from an empty cache and return its metrics.

    Raises:
        EngineError: the request failed, or was cut short.
    """
    client.reset()
    generation = client.request(request)
    if generation.timeline.output_tokens != request.max_tokens:
        raise EngineError(f"{generation.timeline.output_tokens} tokens came back")
    return compute_all([generation.timeline])


def one_process(
    spec: LaunchSpec, request: Request, iterations: int
) -> tuple[list[dict[str, float]], EngineClient]:
    """Start a process, warm it up, return its counted iterations and the closed client."""
    client = EngineClient.start(spec)
    try:
        warmup: list[float] = []
        while not is_warm(warmup, WARMUP_MAX):
            warmup.append(replay(client, request)["end_to_end"])
        return [replay(client, request) for _ in range(iterations)], client
    finally:
        client.close()


def document(arguments: argparse.Namespace, client: EngineClient) -> dict[str, Any]:
    """Return the trace without samples."""
    info = client.info
    return {
        "machine": read_machine(installed_backend()).key,
        "recorded": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "engine": f"{info.engine} {info.engine_version}",
        "model": f"{info.model_name} {info.quantization}",
        "threads": info.n_threads,
        "output_tokens": arguments.output_tokens,
        "metrics": {name: [] for name in METRICS},
    }


def record(arguments: argparse.Namespace) -> None:
    """Record process by process, and write the file after each."""
    spec = launch_spec(Path.cwd())
    request = Request(prompt=PROMPT, max_tokens=arguments.output_tokens, ignore_eos=True)
    trace: dict[str, Any] | None = None
    began = time.monotonic()
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, arguments.processes + 1):
        rows, client = one_process(spec, request, arguments.iterations)
        trace = trace or document(arguments, client)
        for name in METRICS:
            trace["metrics"][name].append([float(f"{row[name]:.6g}") for row in rows])
        fresh = arguments.file.with_suffix(".part")
        fresh.write_text(_text(trace), encoding="utf-8")
        fresh.replace(arguments.file)
        print(f"process {number} of {arguments.processes}, {time.monotonic() - began:.0f} s")


def _text(trace: dict[str, Any]) -> str:
    """Return JSON with one process a line."""
    head = {key: value for key, value in trace.items() if key != "metrics"}
    lines = json.dumps(head, indent=1)[:-2]
    blocks = [
        f'  "{name}": [\n' + ",\n".join(f"   {json.dumps(row)}" for row in rows) + "\n  ]"
        for name, rows in trace["metrics"].items()
    ]
    return lines + ',\n "metrics": {\n' + ",\n".join(blocks) + "\n }\n}\n"


def main() -> int:
    """Record."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--processes", type=int, default=60)
    parser.add_argument("--iterations", type=int, default=6, help="counted, per process")
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--file", type=Path, default=DEFAULT)
    arguments = parser.parse_args()
    if min(arguments.processes, arguments.iterations) < 1 or arguments.output_tokens < 2:
        parser.error("needs at least 1 process, 1 iteration and 2 output tokens")
    record(arguments)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ConfigError, ModelError, EngineError) as problem:
        print(f"record_trace: {problem}", file=sys.stderr)
        sys.exit(2)
