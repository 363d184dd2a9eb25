"""How much sampling the GPUs slows generation, in turns with and without the sampler.

    python benchmarks/telemetry_overhead.py [--pairs 60] [--json telemetry.json]
    GGML_VK_VISIBLE_DEVICES=0 python benchmarks/telemetry_overhead.py --python PATH/TO/bin/python
    python benchmarks/telemetry_overhead.py --python PATH/TO/bin/python --own-cards

One real engine process generates the same answer again and again, with the sampler on or off
in randomised ABBA order; a fresh process follows every few pairs. The cards are simulated by the
tests' stand-in library, compiled for this run: one card, then eight. With ``--python`` the engine
is that environment's, with all layers on its device (the Vulkan build on Debian's software
device); without it, this environment's on the CPU. ``--own-cards`` samples the machine's own
cards through the driver's library instead.

Where a token takes less time than passes between two samples, single samples are judged, too: the
token that a sample meets and the next one, against neighbours that no sample met, less the same at
moments without a sample in the generations without the sampler. This leaves out machine drift.

Exit status 0 if sampling is shown to cost at most 0.5% of decode speed (95%) in every scenario,
by either comparison; 1 if not; 2 if it could not be measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median, stdev

from exit_status import exit_with
from fidelity import embedded_model
from paired import MIN_PAIRS, Interval, ratio_interval, spread_of

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.request import Request
from pytest_llmperf.machine.gpu.summary import summarise
from pytest_llmperf.machine.gpu.telemetry import HZ, Telemetry
from pytest_llmperf.metrics import compute_all
from pytest_llmperf.run import Run
from pytest_llmperf.timeline import Timeline

ROOT = Path(__file__).resolve().parent.parent
SUPPORT = ROOT / "tests" / "support"
SCENARIOS = ("healthy", "eight_devices")
OWN_CARDS = "own cards"
#: Lowest accepted ratio of decode speeds, with the sampler over without.
MIN = 0.995
#: Fewest samples, and fewest moments without a sample, needed to say what a sample costs.
MOMENTS = 100
NORMAL_95 = 1.96
_CHILD, _SCENARIO = "LLMPERF_TELEMETRY_BENCHMARK", "LLMPERF_NVML_SCENARIO"
_PROMPT = "Explain in one paragraph what a KV cache is and why it matters."


@dataclass(frozen=True)
class Pair:
    """Two generations, with the sampler and without.

    Attributes:
        on, off: decode speed, tokens per second.
        hz: how often the cards were sampled.
        met: cost of each sample to the tokens it met, as a share of one token's time.
        unmet: the same at moments without a sample, in the generation without the sampler.
    """

    on: float
    off: float
    hz: float
    met: list[float]
    unmet: list[float]


def build_library(folder: Path) -> None:
    """Compile the stand-in library.

    Raises:
        RuntimeError: there is no compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("needs a C compiler (cc or gcc) for the stand-in library")
    target = folder / "libnvidia-ml.so.1"
    source = SUPPORT / "nvml_stub.c"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", target, source], check=True)


def scenario_text(name: str) -> str:
    """Return what the stand-in library answers from."""
    sys.path.insert(0, str(SUPPORT))
    text: str = importlib.import_module("stand_in_card").scenario(name)
    return text


def turns(order: random.Random) -> Iterator[tuple[bool, bool]]:
    """Yield endlessly whether the sampler is on in each generation of a pair, in ABBA order."""
    while True:
        first = order.random() < 0.5
        yield first, not first
        yield not first, first


def generate(client: EngineClient, tokens: int) -> Timeline:
    """Generate the answer once; return its timeline."""
    client.reset()
    return client.request(Request(prompt=_PROMPT, max_tokens=tokens)).timeline


def costs_of(timeline: Timeline, moments: Sequence[float]) -> list[float]:
    """Return how much longer the token at each moment, and the next token, took than usual.

    In units of a token's usual time: that of the nearest tokens which no moment touched. Moments
    without such a token nearby are left out.
    """
    times = timeline.token_times
    gaps = [after - before for before, after in pairwise(times)]
    met = sorted({bisect_right(times, at) - 1 for at in moments if times[0] <= at < times[-2]})
    touched = {gap for index in met for gap in (index, index + 1)}
    costs = []
    for index in met:
        beside = [gap for gap in (index - 2, index - 1, index + 2, index + 3) if gap not in touched]
        usual = [gaps[gap] for gap in beside if 0 <= gap < len(gaps)]
        if usual and index + 1 not in met:
            level = fmean(usual)
            costs.append((gaps[index] + gaps[index + 1]) / level - 2.0)
    return costs


def measure(
    spec: LaunchSpec, scenario: str, arguments: argparse.Namespace, order: random.Random
) -> list[Pair]:
    """Measure the pairs of one scenario."""
    if scenario != OWN_CARDS:
        Path(os.environ[_SCENARIO]).write_text(scenario_text(scenario))
    telemetry = Telemetry.open()
    if telemetry is None:
        raise RuntimeError(f"no library for NVIDIA cards answers for {scenario}")
    pairs: list[Pair] = []
    client: EngineClient | None = None
    started = time.monotonic()
    try:
        for number, sides in zip(range(arguments.pairs), turns(order), strict=False):
            if client is None or number % arguments.per_process == 0:
                if client is not None:
                    client.close()
                client = EngineClient.start(spec)
                generate(client, arguments.tokens)
            timelines: dict[bool, Timeline] = {}
            for on in sides:
                sampler = telemetry.watch([client.pid], arguments.hz) if on else None
                timelines[on] = generate(client, arguments.tokens)
                if sampler is not None:
                    sampler.stop()
                    tracks = sampler.tracks()
                    hz = summarise(tracks, sampler.owners, []).hz
            speeds = {
                on: compute_all(Run.in_order([timeline]))["tokens_per_sec"]
                for on, timeline in timelines.items()
            }
            sampled = [reading.t for reading in tracks[0].readings]
            # The same moments, counted from the start of the other generation.
            moved = [at - timelines[True].t_start + timelines[False].t_start for at in sampled]
            met, unmet = costs_of(timelines[True], sampled), costs_of(timelines[False], moved)
            pairs.append(Pair(speeds[True], speeds[False], hz, met, unmet))
            print(
                f"{scenario}: pair {number + 1}/{arguments.pairs}  "
                f"{time.monotonic() - started:4.0f} s  on {speeds[True]:.1f}  "
                f"off {speeds[False]:.1f} tok/s",
                file=sys.stderr,
            )
    finally:
        telemetry.close()
        if client is not None:
            client.close()
    return pairs


def verdict(pairs: list[Pair]) -> str:
    """Say whether the intervals prove that the limit is kept."""
    ratio, share = compared(pairs), sampled_share(pairs)
    if ratio.low >= MIN or (share is not None and share.high <= 1 - MIN):
        return "shown"
    above = share is not None and share.low > 1 - MIN
    return "refuted" if ratio.high < MIN or above else "not shown"


def sampled_share(pairs: list[Pair]) -> Interval | None:
    """Return the share of time that sampling takes, by the cost of single samples, at 95%.

    None where tokens last so long that samples meet all of them. A twentieth of the costs at
    either end is left out, with the sampler and without: other programs cause stalls.
    """
    met = [cost for pair in pairs for cost in pair.met]
    unmet = [cost for pair in pairs for cost in pair.unmet]
    if min(len(met), len(unmet)) < MOMENTS:
        return None
    (on, wide), (off, spread) = trimmed(met), trimmed(unmet)
    # Samples per token, which turn a share of a token's time into a share of all time.
    per_token = median(pair.hz / pair.on for pair in pairs)
    half = NORMAL_95 * math.hypot(wide, spread)
    return Interval(*(cost * per_token for cost in (on - off, on - off - half, on - off + half)))


def trimmed(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean without a twentieth at either end, and its standard error.

    Source: Tukey and McLaughlin 1963; Wilcox, Introduction to Robust Estimation, section 3.3.
    """
    ordered = sorted(values)
    cut = len(ordered) // 20
    inner = ordered[cut : len(ordered) - cut]
    winsorised = [inner[0]] * cut + inner + [inner[-1]] * cut
    return fmean(inner), stdev(winsorised) / (0.9 * math.sqrt(len(ordered)))


def compared(pairs: list[Pair]) -> Interval:
    """Return the ratio of decode speeds, with the sampler over without, and its 95% interval."""
    return ratio_interval([pair.on for pair in pairs], [pair.off for pair in pairs])


def table(results: dict[str, list[Pair]]) -> list[str]:
    """Return the printed table."""
    lines = [f"{'':15}{'with':>14}{'without':>14}{'with/without (95%)':>28}{'pairs':>7}{'Hz':>6}"]
    for name, pairs in results.items():
        on, off = [pair.on for pair in pairs], [pair.off for pair in pairs]
        ratio = compared(pairs)
        sides = [f"{median(side):.1f} ±{spread_of(side):.1%}" for side in (on, off)]
        shown = f"{ratio.centre:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]"
        hz = median(pair.hz for pair in pairs)
        lines.append(f"{name:15}{sides[0]:>14}{sides[1]:>14}{shown:>28}{len(pairs):7}{hz:6.1f}")
    lines.append("decode tok/s: median over generations ± robust spread (1.4826 MAD); ratio:")
    lines.append("Hodges-Lehmann centre [95% signed-rank interval] over pairs")
    for name, pairs in results.items():
        share = sampled_share(pairs)
        if share is None:
            lines.append(
                f"{name}: too few samples met a token beside an unmet one, so they tell nothing"
            )
        else:
            lines.append(
                f"{name}: by {sum(len(pair.met) for pair in pairs)} single samples, sampling takes "
                f"{share.centre:.3%} [{share.low:.3%}, {share.high:.3%}] of the time"
            )
    lines += [
        f"{name}: sampling costs at most {1 - MIN:.1%} of decode speed: {verdict(pairs)}"
        for name, pairs in results.items()
    ]
    return lines


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--pairs", type=int, default=60, help=f"at least {MIN_PAIRS}")
    parser.add_argument("--tokens", type=int, default=128, help="output tokens of a generation")
    parser.add_argument("--per-process", type=int, default=10, help="pairs of an engine process")
    parser.add_argument("--hz", type=float, default=HZ, help="samples a second")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="(default: all)")
    parser.add_argument("--own-cards", action="store_true", help="sample the machine's cards")
    parser.add_argument("--model", type=Path, help="a GGUF file (default: the embedded model)")
    parser.add_argument("--python", type=Path, help="of an environment with a GPU build")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    parser.add_argument("--json", type=Path, help="write every sample there")
    arguments = parser.parse_args()
    if arguments.pairs < MIN_PAIRS:
        parser.error(f"--pairs: expected at least {MIN_PAIRS}, got {arguments.pairs}")
    if arguments.own_cards and arguments.scenario:
        parser.error("--own-cards: the machine's cards answer, and no --scenario")
    if arguments.tokens < 2 or arguments.per_process < 1 or arguments.hz <= 0:
        parser.error("--tokens: at least 2; --per-process: at least 1; --hz: above 0")
    return arguments


def main() -> int:
    """Measure, print, and judge."""
    arguments = parse_arguments()
    if _CHILD not in os.environ and not arguments.own_cards:
        # The loader reads its path when a process starts: measure in a child that has the library.
        with tempfile.TemporaryDirectory() as name:
            build_library(Path(name))
            paths = [name, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
            environ = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(paths), _CHILD: "1"}
            environ[_SCENARIO] = str(Path(name) / "scenario.txt")
            environ.pop("CUDA_VISIBLE_DEVICES", None)
            return subprocess.run([sys.executable, *sys.argv], env=environ, check=False).returncode
    model = (arguments.model or embedded_model()).absolute()
    layers = -1 if arguments.python else 0
    llm = LlamaCppConfig.model_validate({"n_gpu_layers": layers, "max_tokens": arguments.tokens})
    spec = LaunchSpec(
        "llama_cpp", llm.resolved(model), python=str(arguments.python or sys.executable)
    )
    order = random.Random(arguments.seed)
    scenarios = [OWN_CARDS] if arguments.own_cards else arguments.scenario or SCENARIOS
    results = {name: measure(spec, name, arguments, order) for name in scenarios}
    print("\n".join(table(results)))
    if arguments.json:
        document = {
            "ratios": {name: asdict(compared(pairs)) for name, pairs in results.items()},
            "pairs": {name: [asdict(pair) for pair in pairs] for name, pairs in results.items()},
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if all(verdict(pairs) == "shown" for pairs in results.values()) else 1


if __name__ == "__main__":
    exit_with(main, Exception)
