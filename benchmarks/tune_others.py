"""llmperf tune side by side with llama-optimus and fituna: the point, the time, and the proof."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from other_tuners import OtherTuners, Reached
from tune_bench import Bench, bad_start

from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.models.quantize import quantize
from pytest_llmperf.models.synthetic import synthesize
from pytest_llmperf.tune.space import shown

if TYPE_CHECKING:
    from outcomes import Outcomes

    from pytest_llmperf.tune.result import TuneResult

KINDS = ("Q8_0", "Q6_K", "Q4_K_M")
_BATCHES = (32, 128, 512)


def side_by_side(arguments: argparse.Namespace, folder: Path, outcomes: Outcomes) -> None:
    """Let the tuners search the same spaces, and compare what they reached."""
    tuners = OtherTuners()
    done = {outcome["other"] for outcome in outcomes.all}
    if "llama-optimus" not in done:
        outcomes.add(_settings(arguments, folder, tuners))
    if "fituna" not in done:
        outcomes.add(_quantizations(arguments, folder, tuners))
    for outcome in outcomes.all:
        _show(outcome)


def _settings(arguments: argparse.Namespace, folder: Path, tuners: OtherTuners) -> dict[str, Any]:
    """Search threads, batches and flash attention, from a bad start."""
    cpus = usable_cpus()
    threads = sorted({1, cpus})
    space = {
        "n_threads": threads,
        "n_threads_batch": [*threads],
        "n_batch": [*_BATCHES],
        "n_ubatch": [*_BATCHES],
        "flash_attn": [False, True],
    }
    start = {**bad_start(), "n_ubatch": 32, "n_ctx": 2048, "model_path": arguments.model}
    bench = Bench(folder, start, space, arguments.prompt_tokens, arguments.max_tokens)
    own = bench.search((1,))
    sizes = {"low": min(_BATCHES), "high": max(_BATCHES)}
    ranges = {
        "threads": {"low": 1, "high": cpus},
        "batch_size": sizes,
        "ubatch_size": sizes,
        "gpu_layers": {"low": 0, "high": 0},
    }
    model = resolve_model(arguments.model, Path())
    other = tuners.llama_optimus(model, ranges, arguments.max_tokens, arguments.trials)
    return _compared("llama-optimus", bench, own, other)


def _quantizations(
    arguments: argparse.Namespace, folder: Path, tuners: OtherTuners
) -> dict[str, Any]:
    """Search the quantizations of an F16 model with random weights."""
    cpus = usable_cpus()
    model = folder / "model-F16.gguf"
    synthesize("smollm2-135m", "F16", model, layers=arguments.layers)
    files = [str(made.path) for made in quantize(str(model), KINDS, folder)]
    context = 512
    start = {
        "model_path": str(model),
        "n_threads": cpus,
        "n_threads_batch": cpus,
        "n_ctx": context,
    }
    bench = Bench(
        folder,
        start,
        {"n_threads": [cpus]},
        arguments.prompt_tokens,
        arguments.max_tokens,
        models=files,
    )
    own = bench.search((2,))
    today = next(level.value for level in own.before.levels if level.metric == "tokens_per_sec")
    # A target that the F16 file does not reach.
    other = tuners.fituna(model, KINDS, context, 1.2 * today, folder)
    return _compared("fituna", bench, own, other)


def _compared(name: str, bench: Bench, own: TuneResult, other: Reached) -> dict[str, Any]:
    """Return both results, and how fast the other's point is as a share of ours, from pairs."""
    ours = dict(own.best.settings) if own.best is not None else {}
    proof = own.confirmed.seconds if own.confirmed is not None else 0.0
    share = None
    if not other.error:
        test, engine = bench.record()
        share = math.exp(-bench.compare(dict(other.settings), ours, test, engine))
    return {
        "other": name,
        "found": ours,
        "points": len(own.points),
        "seconds": own.seconds - proof,
        "proof_seconds": proof,
        "conclusion": own.conclusion,
        "improved": own.winner is not None,
        "other_found": dict(other.settings),
        "other_seconds": other.seconds,
        "other_claim": other.claim,
        "other_error": other.error,
        "speed_share": share,
    }


def _show(outcome: Mapping[str, Any]) -> None:
    proven = "proven" if outcome["improved"] else "not proven"
    print(f"\nllmperf tune beside {outcome['other']}")
    print(f"  llmperf tune   {outcome['seconds']:5.0f} s  {_brief(outcome['found'])}")
    print(
        f"                 {proven} in {outcome['proof_seconds']:.0f} s more: "
        f"{outcome['conclusion']}"
    )
    if outcome["other_error"]:
        print(f"  {outcome['other']:13}  found nothing: {outcome['other_error']}")
        return
    print(
        f"  {outcome['other']:13}  {outcome['other_seconds']:5.0f} s  "
        f"{_brief(outcome['other_found'])}"
    )
    print(f"                 no proof; it says: {outcome['other_claim']}")
    print(f"  its point has {outcome['speed_share']:.1%} of the speed of llmperf tune's, in pairs")


def _brief(settings: Mapping[str, Any]) -> str:
    """Return settings in one line, with a model's file name only."""
    named = {
        key: Path(value).name if key == "model_path" else value for key, value in settings.items()
    }
    return shown(named)
