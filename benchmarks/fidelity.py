"""Does the engine report the speeds that llama-bench reports, on the same build and setting?

    python benchmarks/fidelity.py [--pairs 40] [--json fidelity.json]

The first run builds llama.cpp's programs together with its Python library (about
6 minutes on 2 cores) into an environment of its own in the cache folder. Each
pair starts every program once in a fresh process, in random order. Exit status 0 if
the 95% interval of engine / llama-bench lies within 0.98-1.02 and its centre
within 1%, for decode and for prefill; 1 if not; 2 if it could not be measured.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median

from exit_status import exit_with
from fidelity_programs import Rates, Setting, prompt_ids, run_engine, run_llama_bench, run_streaming
from paired import MIN_PAIRS, Interval, ratio_interval, spread_of
from tools_env import ensure_tools

from pytest_llmperf.cpus import usable_cpus

LIMITS, CENTRE = (0.98, 1.02), 0.01
MAX_PAIRS = 80
PROGRAMS = ("llama-bench", "engine", "streaming")
PHASES = ("decode", "prefill")
Results = dict[str, list[Rates]]


def within_limits(ratio: Interval) -> bool:
    """Whether a ratio meets the target."""
    inside = LIMITS[0] <= ratio.low and ratio.high <= LIMITS[1]
    return inside and abs(ratio.centre - 1) <= CENTRE


def measure(programs: dict[str, Callable[[], Rates]], pairs: int, seed: int) -> Results:
    """Run every program once per pair, in an order drawn from ``seed``."""
    order = random.Random(seed)
    results: Results = {name: [] for name in programs}
    started = time.monotonic()
    for number in range(1, pairs + 1):
        names = list(programs)
        order.shuffle(names)
        for name in names:
            results[name].append(programs[name]())
        last = "  ".join(f"{name} {results[name][-1].decode:.1f}" for name in programs)
        elapsed = time.monotonic() - started
        print(f"pair {number}/{pairs}  {elapsed:4.0f} s  decode tok/s: {last}", file=sys.stderr)
    return results


def series(results: Results, program: str, phase: str) -> list[float]:
    """Return one value per pair, tokens per second."""
    return [getattr(rates, phase) for rates in results[program]]


def ratios(results: Results) -> dict[str, dict[str, Interval]]:
    """Return, per phase, each program's ratio to llama-bench with its 95% interval."""
    return {
        phase: {
            program: ratio_interval(
                series(results, program, phase), series(results, "llama-bench", phase)
            )
            for program in PROGRAMS[1:]
        }
        for phase in PHASES
    }


def table(results: Results) -> list[str]:
    """Return the printed table."""
    lines = [
        f"{'':9}{'llama-bench':>18}{'engine':>18}{'engine/llama-bench':>28}"
        f"{'streaming':>18}{'streaming/llama-bench':>28}"
    ]
    compared = ratios(results)
    for phase in PHASES:
        cells = {
            program: f"{median(values):.1f} ±{spread_of(values):.1%}"
            for program in PROGRAMS
            if (values := series(results, program, phase))
        }
        shown = {
            program: f"{r.centre:.4f} [{r.low:.4f}, {r.high:.4f}]"
            for program, r in compared[phase].items()
        }
        lines.append(
            f"{phase:9}{cells['llama-bench']:>18}{cells['engine']:>18}{shown['engine']:>28}"
            f"{cells['streaming']:>18}{shown['streaming']:>28}"
        )
    lines.append(
        "tok/s: median over processes ± robust spread (1.4826 MAD); ratios: Hodges-Lehmann"
    )
    lines.append(
        "centre [95% signed-rank interval] over pairs. Streaming's prefill is prompt tokens"
    )
    lines.append("by the time to its first chunk.")
    for phase in PHASES:
        verdict = "yes" if within_limits(compared[phase]["engine"]) else "NO"
        target = f"engine within {LIMITS[0]}-{LIMITS[1]}, centre within {CENTRE:.0%}"
        lines.append(f"{phase}: {target}: {verdict}")
    return lines


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, help="a GGUF file (default: the embedded model)")
    parser.add_argument("--pairs", type=int, default=40, help=f"{MIN_PAIRS}-{MAX_PAIRS}")
    parser.add_argument("--repetitions", type=int, default=3, help="per process")
    parser.add_argument("--prompt", type=int, default=191, help="prompt tokens")
    parser.add_argument("--output", type=int, default=64, help="output tokens")
    parser.add_argument("--threads", type=int, default=min(8, usable_cpus()))
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--ubatch", type=int, default=512)
    parser.add_argument("--flash-attn", choices=("on", "off"), default="off")
    parser.add_argument("--seed", type=int, default=1, help="of the order within pairs")
    parser.add_argument("--json", type=Path, help="write every sample there")
    arguments = parser.parse_args()
    if not MIN_PAIRS <= arguments.pairs <= MAX_PAIRS:
        parser.error(f"--pairs: expected {MIN_PAIRS} to {MAX_PAIRS}, got {arguments.pairs}")
    return arguments


def embedded_model() -> Path:
    """Return the embedded model's file; it must be in the cache (``make setup`` brings it)."""
    from pytest_llmperf.config.model_path import resolve_model

    return resolve_model("smollm2-135m", Path.cwd())


def main() -> int:
    """Measure, print, and judge."""
    arguments = parse_arguments()
    setting = Setting(
        model=(arguments.model or embedded_model()).absolute(),
        threads=arguments.threads,
        prompt_tokens=arguments.prompt,
        output_tokens=arguments.output,
        n_batch=arguments.batch,
        n_ubatch=arguments.ubatch,
        flash_attn=arguments.flash_attn == "on",
        repetitions=arguments.repetitions,
    )
    setting.check()
    tools = ensure_tools()
    prompt = prompt_ids(tools, setting)
    programs: dict[str, Callable[[], Rates]] = {
        "llama-bench": partial(run_llama_bench, tools, setting),
        "engine": partial(run_engine, tools, setting, prompt),
        "streaming": partial(run_streaming, tools, setting, prompt),
    }
    print(
        f"{setting.model.name}: {setting.threads} threads, {setting.prompt_tokens} prompt tokens, "
        f"{setting.output_tokens} output tokens, n_ctx {setting.n_ctx}, n_batch {setting.n_batch}, "
        f"flash attention {arguments.flash_attn}, {arguments.pairs} pairs of fresh processes, "
        f"median of {setting.repetitions} in each, seed {arguments.seed}"
    )
    results = measure(programs, arguments.pairs, arguments.seed)
    print("\n".join(table(results)))
    compared = ratios(results)
    if arguments.json:
        document = {
            "setting": {**asdict(setting), "model": setting.model.name, "n_ctx": setting.n_ctx},
            "seed": arguments.seed,
            "wheel_sha256": tools.wheel_sha256,
            "ratios": {
                p: {a: asdict(r) for a, r in programs.items()} for p, programs in compared.items()
            },
            "processes": {
                program: [rates.raw for rates in results[program]] for program in PROGRAMS
            },
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if all(within_limits(compared[phase]["engine"]) for phase in PHASES) else 1


if __name__ == "__main__":
    exit_with(main, Exception)
