"""A configuration that is bad in every way a CPU allows: diagnosed, mended, and proven.

    python benchmarks/tune_story.py [--layers 6] [--prompt-tokens 200] [--max-tokens 16]

Four times as many threads as CPUs, small batches, no mmap, a context of 32k for a few hundred
tokens, and F16 where Q4_K_M would do. ``llmperf doctor`` is to name the causes in the order of what
they cost, and ``llmperf tune`` to mend them until three targets are met that today's speed misses
by far: half as long a first token and answer, and half as many tokens a second again. Both are the
real commands. Exit status 0 if every cause was named, the gain was proven and all targets are met.
It needs a machine that nobody else uses, and some minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.models.quantize import quantize
from pytest_llmperf.models.synthetic import synthesize

LLMPERF = (sys.executable, "-m", "pytest_llmperf.cli")
CAUSES = {
    "threads_above_cores",
    "weights_not_quantized",
    "batch_small",
    "context_large",
    "not_mapped",
}


def make_project(folder: Path, arguments: argparse.Namespace) -> None:
    """Write the model, its quantization, and the bad configuration."""
    model = folder / "model-F16.gguf"
    synthesize("smollm2-135m", "F16", model, layers=arguments.layers)
    (quantized,) = quantize(str(model), ["Q4_K_M"], folder)
    cpus = usable_cpus()
    llm = {
        "model_path": str(model),
        "n_threads": 4 * cpus,
        "n_threads_batch": 4 * cpus,
        "n_batch": 32,
        "n_ctx": 32768,
        "use_mmap": False,
        "max_tokens": arguments.max_tokens,
    }
    space = {
        "n_threads": [1, cpus],
        "n_threads_batch": [1, cpus],
        "n_batch": [128, 512],
        "n_ctx": [512],
        "use_mmap": [True],
    }
    tune = {"space": space, "models": [str(quantized.path)], "budget": "10m"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"llm": llm, "tune": tune}))


def run(folder: Path, *words: str) -> int:
    """Run llmperf in the folder, and show what it prints."""
    print(f"\n$ llmperf {' '.join(words[:1])} ...", flush=True)
    return subprocess.run([*LLMPERF, *words], cwd=folder, check=False).returncode


def diagnosed(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the doctor found."""
    sizes = ["--prompt-tokens", str(arguments.prompt_tokens)]
    sizes += ["--max-tokens", str(arguments.max_tokens)]
    run(folder, "doctor", *sizes, "--budget", "4m", "--json", "doctor.json")
    found: dict[str, Any] = json.loads((folder / "doctor.json").read_text())
    return found


def main() -> int:
    """Tell the story."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=6, help="of the model (default: 6)")
    parser.add_argument("--prompt-tokens", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmperf-") as name:
        folder = Path(name)
        make_project(folder, arguments)
        found = diagnosed(folder, arguments)
        now = found["metrics"]
        limits = {
            "tokens_per_sec": 1.5 * now["tokens_per_sec"],
            "first_token": now["first_token"] / 2,
            "end_to_end": now["end_to_end"] / 2,
        }
        # About two characters are a token of such a model.
        prompt = ("A question about the caches of a model. " * arguments.prompt_tokens)[
            : 2 * arguments.prompt_tokens
        ]
        targets = ["--set", f"perf.targets={json.dumps(limits)}"]
        status = run(
            folder, "tune", "--prompt", prompt, *targets, "--summary", "--json", "tune.json"
        )
        result = json.loads((folder / "tune.json").read_text()) if status == 0 else {}
    groups = ("findings", "without_gain", "not_tried")
    named = [one["name"] for group in groups for one in found[group]]
    met = [one["metric"] for one in result.get("targets", []) if one["after"] == "met"]
    missed = [one["metric"] for one in result.get("targets", []) if one["before"] == "missed"]
    print(f"\nnamed, the costliest first: {', '.join(one['name'] for one in found['findings'])}")
    print(f"not named: {', '.join(sorted(CAUSES - {*named})) or 'none'}")
    print(f"proven: {result.get('conclusion', 'nothing')}")
    print(f"targets missed before: {len(missed)} of {len(limits)}, met after: {len(met)}")
    good = named and {*named} >= CAUSES and result.get("improved")
    return 0 if good and len(met) == len(missed) == len(limits) else 1


if __name__ == "__main__":
    sys.exit(main())
