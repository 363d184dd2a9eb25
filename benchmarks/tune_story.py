"""Whether a configuration that is bad in every way is diagnosed, fixed, and proven better.

    python benchmarks/tune_story.py [--layers 6] [--prompt-tokens 200] [--max-tokens 16]
    python benchmarks/tune_story.py --gpu [--prompt-tokens 200] [--max-tokens 200]

On a CPU it has four times as many threads as CPUs, small batches, no mmap, a context of 32k for a
few hundred tokens, and F16 where Q4_K_M would do. ``llmperf doctor`` must name the causes,
costliest first, and ``llmperf tune --summary`` must fix them until three targets are met that the
present speed misses by far: half the time to the first token and for the answer, and 1.5 times the
tokens per second.

With ``--gpu`` a model of 7B's shape (4.4 GiB) has all its layers on the CPU, and the targets are 60
tokens/s, an answer in 5 s and a first token in 500 ms.

All commands are the real ones. Each check is printed. Exit status 0 if every cause was named in the
right order, every setting was fixed, the gain was proven, and all targets were missed before and
are met now, also in the summary; else 1. It needs a machine that nobody else uses, and some
minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.diagnosis.situation import look_at_hardware
from pytest_llmperf.models.quantize import quantize
from pytest_llmperf.models.synthetic import synthesize
from pytest_llmperf.report.tune_markdown import FILE_NAME

LLMPERF = (sys.executable, "-m", "pytest_llmperf.cli")
#: Causes that cost memory, and hardly any time: they come last.
MEMORY_ONLY = {"context_large", "not_mapped"}


@dataclass(frozen=True)
class Story:
    """A bad configuration, with its expected causes and fixes.

    Attributes:
        llm: its settings.
        good: values of each bad setting that fix it; tune may try only these.
        causes: what doctor is to name.
        costliest: which of them costs most.
        targets: limits in base units; None derives them from the present speed.
        budget: of the search.
    """

    llm: Mapping[str, Any]
    good: Mapping[str, tuple[Any, ...]]
    causes: frozenset[str]
    costliest: str
    targets: Mapping[str, float] | None
    budget: str

    def write(self, folder: Path) -> None:
        """Write the configuration."""
        space = {key: [*values] for key, values in self.good.items() if key != "model_path"}
        models = [*self.good.get("model_path", ())]
        tune = {"space": space, "models": models, "budget": self.budget}
        content = yaml.safe_dump({"llm": dict(self.llm), "tune": tune})
        (folder / "config.yaml").write_text(content)


def on_cpu(folder: Path, layers: int, max_tokens: int) -> Story:
    """Write the F16 model and its quantization, and return the story of both."""
    model = folder / "model-F16.gguf"
    synthesize("smollm2-135m", "F16", model, layers=layers)
    (quantized,) = quantize(str(model), ["Q4_K_M"], folder)
    cpus = usable_cpus()
    threads = {"n_threads": 4 * cpus, "n_threads_batch": 4 * cpus}
    bad = {**threads, "n_batch": 32, "n_ctx": 32768, "use_mmap": False}
    return Story(
        llm={"model_path": str(model), **bad, "max_tokens": max_tokens},
        good={
            "n_threads": (1, cpus),
            "n_threads_batch": (1, cpus),
            "n_batch": (128, 512),
            "n_ctx": (512,),
            "use_mmap": (True,),
            "model_path": (str(quantized.path),),
        },
        causes=frozenset(
            {"threads_above_cores", "weights_not_quantized", "batch_small", *MEMORY_ONLY}
        ),
        costliest="threads_above_cores",
        targets=None,
        budget="10m",
    )


def on_gpu(folder: Path, max_tokens: int) -> Story:
    """Write a model of 7B's shape, and return the story of its layers on the CPU."""
    model = folder / "model-Q4_K_M.gguf"
    synthesize("qwen2.5-7b", "Q4_K_M", model)
    bad = {"n_gpu_layers": 0, "n_ctx": 4096, "max_tokens": max_tokens}
    return Story(
        llm={"model_path": str(model), **bad},
        good={"n_gpu_layers": (-1,)},
        causes=frozenset({"layers_not_asked"}),
        costliest="layers_not_asked",
        targets={"tokens_per_sec": 60.0, "first_token": 0.5, "end_to_end": 5.0},
        budget="40m",
    )


def run(folder: Path, *words: str) -> int:
    """Run llmperf in the folder, and show what it prints."""
    print(f"\n$ llmperf {' '.join(words[:1])} ...", flush=True)
    return subprocess.run([*LLMPERF, *words], cwd=folder, check=False).returncode


def diagnosed(folder: Path, prompt_tokens: int, max_tokens: int) -> dict[str, Any]:
    """Return what the doctor found."""
    sizes = ["--prompt-tokens", str(prompt_tokens), "--max-tokens", str(max_tokens)]
    run(folder, "doctor", *sizes, "--budget", "4m", "--json", "doctor.json")
    diagnosis: dict[str, Any] = json.loads((folder / "doctor.json").read_text())
    return diagnosis


def tuned(
    folder: Path, prompt_tokens: int, targets: Mapping[str, float]
) -> tuple[dict[str, Any], str]:
    """Return the result of the search, and its summary; both empty if it failed."""
    # A token of such a model is about two characters.
    prompt = ("A question about the caches of a model. " * prompt_tokens)[: 2 * prompt_tokens]
    limits = ["--set", f"perf.targets={json.dumps(targets)}"]
    if run(folder, "tune", "--prompt", prompt, *limits, "--summary", "--json", "tune.json"):
        return {}, ""
    return json.loads((folder / "tune.json").read_text()), (folder / FILE_NAME).read_text()


def targets_from(now: Mapping[str, float]) -> dict[str, float]:
    """Return targets that the present speed misses by far."""
    return {
        "tokens_per_sec": 1.5 * now["tokens_per_sec"],
        "first_token": now["first_token"] / 2,
        "end_to_end": now["end_to_end"] / 2,
    }


def diagnosis_checks(story: Story, diagnosis: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield each requirement of the diagnosis, and whether it is met."""
    groups = ("findings", "without_gain", "not_tried")
    named = {cause["name"] for group in groups for cause in diagnosis[group]}
    missing = ", ".join(sorted(story.causes - named)) or "none"
    yield f"causes that doctor does not name: {missing}", not story.causes - named
    costs = [(finding["name"], cost_of(finding)) for finding in diagnosis["findings"]]
    shown = ", ".join(f"{name} {f'{cost:.2f}x' if cost else '-'}" for name, cost in costs)
    measured = [cost for _, cost in costs if cost]
    in_order = measured == sorted(measured, reverse=True)
    yield (
        f"the costliest cause first: {shown}",
        in_order and costs[:1] == [(story.costliest, max(measured, default=0.0))],
    )
    times = [at for at, (name, _) in enumerate(costs) if name not in MEMORY_ONLY]
    memory = [at for at, (name, _) in enumerate(costs) if name in MEMORY_ONLY]
    yield "what costs memory alone comes last", max(times, default=-1) < min(memory, default=99)


def cost_of(finding: Mapping[str, Any]) -> float:
    """Return the factor by which a cause slows the engine; 0 if no gain was proven."""
    gain = finding["gain"]
    if gain is None or gain["outcome"] != "gain":
        return 0.0
    proven = [change["speedup"] for change in gain["changes"].values() if (change["low"] or 0) > 1]
    return max(proven, default=0.0)


def search_checks(
    story: Story, result: Mapping[str, Any], summary: str, targets: Mapping[str, float]
) -> Iterator[tuple[str, bool]]:
    """Yield each requirement of the search and its summary, and whether it is met."""
    yield f"proven: {result.get('conclusion', 'nothing')}", bool(result.get("improved"))
    changed = (result.get("winner") or {}).get("changed", {})
    for key, values in story.good.items():
        now = changed.get(key)
        yield f"{key}: {story.llm[key]} → {now}", now in values
    states = {row["metric"]: (row["before"], row["after"]) for row in result.get("targets", ())}
    for name, limit in targets.items():
        before, after = states.get(name, ("unknown", "unknown"))
        good = (before, after) == ("missed", "met")
        yield f"target {name} {limit:.3g}: {before} → {after}", good
    stands = "**Improved: " in summary and summary.count("missed → met") == len(targets)
    yield "the gain and the targets stand in the summary", stands


def main() -> int:
    """Run the story, and print each check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpu", action="store_true", help="a model of 7B's shape, on a card")
    parser.add_argument(
        "--layers", type=whole_number(), default=6, help="of the CPU's model (default: 6)"
    )
    parser.add_argument("--prompt-tokens", type=whole_number(), default=200)
    parser.add_argument("--max-tokens", type=whole_number(2), help="(default: 16; 200 with --gpu)")
    arguments = parser.parse_args()
    if arguments.gpu and not look_at_hardware().cards:
        parser.error("--gpu needs a GPU, and this machine shows none")
    max_tokens = arguments.max_tokens or (200 if arguments.gpu else 16)
    with tempfile.TemporaryDirectory(prefix="llmperf-") as name:
        folder = Path(name)
        if arguments.gpu:
            story = on_gpu(folder, max_tokens)
        else:
            story = on_cpu(folder, arguments.layers, max_tokens)
        story.write(folder)
        diagnosis = diagnosed(folder, arguments.prompt_tokens, max_tokens)
        targets = story.targets or targets_from(diagnosis["metrics"])
        result, summary = tuned(folder, arguments.prompt_tokens, targets)
    checks = [
        *diagnosis_checks(story, diagnosis),
        *search_checks(story, result, summary, targets),
    ]
    print()
    for text, good in checks:
        print(f"{'ok ' if good else 'NOT'}  {text}")
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
