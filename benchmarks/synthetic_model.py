"""Whether a synthetic model is as fast as the real model that it imitates.

    python benchmarks/synthetic_model.py [--model FILE] [--quant Q4_1] [--pairs 16] [--within 2%]

The real model (default: the embedded one) and its synthetic copy (``llmperf model synth --like``)
are the sides of pairs that take turns by tokens, so that the machine slows both alike. Without
``--quant`` the copy has the real file's own types.
Printed for each metric: how much slower the copy is (negative: faster), the 95% interval of that
(Wilcoxon's signed ranks), and the pairs' spread (1.4826 times the median absolute deviation).
The exit status is 1 if the interval of tokens per second is not within ``--within``.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

from exit_status import exit_with
from paired import MIN_PAIRS, signed_rank_interval
from turns import METRICS, block, plan_of, record, spread

from pytest_llmperf.arguments import share, whole_number
from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.engine.client import LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.models.synthetic import synthesize


def main() -> int:
    """Make the copy, measure both, and print the table."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--model", default="smollm2-135m", help="a real one")
    parser.add_argument("--quant", help="of the copy; default: the types that the model has")
    parser.add_argument("--pairs", type=whole_number(MIN_PAIRS), default=16)
    parser.add_argument("--iterations", type=int, default=3, help="counted, of a process")
    parser.add_argument("--threads", type=int, default=2, help="of the engine")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer")
    parser.add_argument("--within", type=share, default=0.02)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    threads = {"n_threads": arguments.threads, "n_threads_batch": arguments.threads}
    llm = LlamaCppConfig.model_validate({"n_ctx": 512, **threads})
    real = resolve_model(arguments.model, Path.cwd())
    # Beside the real file, so that both are on the same disk.
    with tempfile.TemporaryDirectory(dir=real.parent, prefix=".llmperf-synthetic-") as folder:
        made = synthesize(str(real), arguments.quant, Path(folder) / "synthetic.gguf")
        base, candidate = (
            LaunchSpec("llama_cpp", llm.resolved(file)) for file in (real, made.path)
        )
        pairs = arguments.pairs
        workload = record(base, arguments.tokens)
        plan = plan_of(workload, pairs, arguments.iterations, arguments.seed, processes=pairs)
        done = block(candidate, base, plan, "tokens")
        differences = done.differences
        sizes = [file.stat().st_size for file in (real, made.path)]
    print(f"{real.name}, {sizes[0]:,} bytes, and its synthetic copy, {sizes[1]:,} bytes")
    print(f"{'':<16}{'slower':>8}  {'95% interval':>18}  spread  pairs")
    within = True
    for name in METRICS:
        interval = signed_rank_interval(differences[name])
        low, high = (math.expm1(limit) for limit in (interval.low, interval.high))
        cells = f"{math.expm1(interval.centre):>+8.2%}  {f'[{low:+.2%}, {high:+.2%}]':>18}"
        print(f"{name:<16}{cells}  {spread(differences[name]):>6.2%}  {len(differences[name]):>5}")
        if name == METRICS[0]:
            within = max(abs(low), abs(high)) <= arguments.within
    print(f"{done.seconds:.0f} s; {'' if within else 'NOT '}within {arguments.within:.1%}")
    return 0 if within else 1


if __name__ == "__main__":
    exit_with(main, EngineError, ModelError)
