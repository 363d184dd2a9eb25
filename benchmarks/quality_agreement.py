"""Do our quality figures agree with llama-perplexity's, for the same build, models and text?

    python benchmarks/quality_agreement.py [--reference MODEL] [--type-k q4_0 --type-v q4_0]

Without ``--reference`` the embedded model is the reference, and a coarser quantization that
llama.cpp makes of it (Q4_0) the candidate. The first run builds llama.cpp's programs together
with its Python library (about 6 minutes on 2 cores) into an environment of its own in the cache
folder. ``llama-perplexity`` scores the second half of each chunk of ``--chunk`` tokens, as we do.
It stores the reference's log-probabilities in 16 bits, and compares all of them; we store the 256
largest. Exit status 0 if perplexities, mean divergence and the share of equal top tokens differ
by at most ``--within``; 1 if not; 2 if it could not be measured.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from exit_status import exit_with
from tools_env import ToolsEnvironment, ensure_tools

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.quality import passages
from pytest_llmperf.quality.figures import QualityResult
from pytest_llmperf.quality.measure import TOP, quality_of
from pytest_llmperf.quality.passages import SHIPPED_TEXT, Text


@dataclass(frozen=True)
class Setting:
    """Settings that both tools are given."""

    reference: Path
    candidate: Path
    text: Path
    chunk: int
    batch: int
    threads: int
    flash_attn: bool
    type_k: str
    type_v: str


@dataclass(frozen=True)
class Figures:
    """One tool's figures; a share is a fraction."""

    perplexity: float
    reference_perplexity: float
    kl: float
    kl_error: float
    top1: float


def run_tool(tools: ToolsEnvironment, setting: Setting, folder: Path) -> Figures:
    """Score the reference, then compare the candidate, with llama-perplexity."""
    base = folder / "base.kld"
    _perplexity(tools, setting, setting.reference, ["--kl-divergence-base", str(base)], "f16")
    options = ["--kl-divergence-base", str(base), "--kl-divergence"]
    output = _perplexity(tools, setting, setting.candidate, options, None)
    base.unlink()

    def number(pattern: str, group: int = 1) -> float:
        match = re.search(pattern, output)
        if match is None:
            raise RuntimeError(f"llama-perplexity printed no {pattern!r}:\n{output[-3000:]}")
        return float(match[group])

    value = r"\s*:\s*(-?[\d.]+(?:e-?\d+)?)\s*±\s*(-?[\d.]+(?:e-?\d+)?)"
    return Figures(
        perplexity=number(rf"Mean PPL\(Q\)\s*{value}"),
        reference_perplexity=number(rf"Mean PPL\(base\)\s*{value}"),
        kl=number(rf"Mean\s+KLD{value}"),
        kl_error=number(rf"Mean\s+KLD{value}", 2),
        top1=number(rf"Same top p{value}") / 100,
    )


def _perplexity(
    tools: ToolsEnvironment, setting: Setting, model: Path, options: list[str], cache: str | None
) -> str:
    """Run llama-perplexity; ``cache``: type of the KV cache, None for the candidate's."""
    program = tools.site / "bin" / "llama-perplexity"
    command = [str(program), "-m", str(model), "-f", str(setting.text), "-c", str(setting.chunk)]
    command += ["-b", str(setting.batch), "-ub", str(setting.batch), "-t", str(setting.threads)]
    command += ["-fa", "on" if setting.flash_attn else "off", "-ngl", "0", *options]
    command += ["-ctk", cache or setting.type_k, "-ctv", cache or setting.type_v]
    done = subprocess.run(
        command,
        env={**os.environ, "LD_LIBRARY_PATH": tools.library_path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"llama-perplexity ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def run_ours(tools: ToolsEnvironment, setting: Setting, folder: Path, top: int) -> QualityResult:
    """Measure with our engine, in the environment of the same build."""
    passages.CHUNK = setting.chunk
    common = {
        "n_ctx": setting.chunk,
        "n_batch": setting.batch,
        "n_ubatch": setting.batch,
        "n_threads": setting.threads,
        "n_threads_batch": setting.threads,
        "n_gpu_layers": 0,
        "flash_attn": setting.flash_attn,
        "max_tokens": 1,
    }
    plain = LlamaCppConfig.model_validate({**common, "type_k": "f16", "type_v": "f16"})
    reference = plain.resolved(setting.reference)
    kinds = {"type_k": setting.type_k, "type_v": setting.type_v}
    config = LlamaCppConfig.model_validate({**common, **kinds})
    spec = LaunchSpec("llama_cpp", config.resolved(setting.candidate), python=str(tools.python))
    # llama-perplexity drops the newline at the end of the file.
    text = Text(setting.text.read_text(encoding="utf-8").removesuffix("\n"))
    other = replace(spec, config=reference)
    return quality_of(spec, other, [text], top=top, folder=folder, say=_note)


def table(theirs: Figures, ours: QualityResult) -> tuple[list[str], float]:
    """Return the printed table, and the largest relative difference."""
    rows = [
        ("perplexity", theirs.perplexity, ours.perplexity),
        ("reference's perplexity", theirs.reference_perplexity, ours.reference_perplexity),
        ("mean KL divergence", theirs.kl, ours.kl),
        ("its error, positions independent", theirs.kl_error, ours.kl_error),
        ("same top token", theirs.top1, ours.top1),
    ]
    lines = [f"{'':34}{'llama-perplexity':>18}{'ours':>14}{'difference':>13}"]
    worst = 0.0
    for name, a, b in rows:
        difference = b / a - 1 if a else 0.0
        if not name.startswith("its error"):
            worst = max(worst, abs(difference))
        lines.append(f"{name:34}{a:18.6f}{b:14.6f}{difference:+13.2%}")
    low, high = ours.kl_interval or (float("nan"), float("nan"))
    lines.append(f"our 95% interval of the divergence, from {ours.blocks} blocks: ")
    lines[-1] += f"[{low:.6f}, {high:.6f}] over {ours.tokens} positions"
    return lines, worst


def coarser(model: Path, folder: Path) -> Path:
    """Return a coarser quantization of a model, made by llama.cpp."""
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    file = folder / f"{model.stem}-Q4_0.gguf"
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    settings.allow_requantize = True
    source, target = str(model).encode(), str(file).encode()
    if llama_cpp.llama_model_quantize(source, target, ctypes.byref(settings)) != 0:
        raise RuntimeError(f"llama.cpp could not quantize {model}")
    return file


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--reference", type=Path, help="a GGUF file (default: the embedded model)")
    parser.add_argument("--candidate", type=Path, help="default: Q4_0 of the reference")
    parser.add_argument("--text", type=Path, default=SHIPPED_TEXT)
    parser.add_argument("--chunk", type=int, default=512)
    parser.add_argument("--threads", type=int, default=min(8, usable_cpus()))
    parser.add_argument("--flash-attn", choices=("on", "off"), default="off")
    parser.add_argument("--type-k", default="f16", help="the candidate's; the reference has f16")
    parser.add_argument("--type-v", default="f16")
    parser.add_argument("--top", type=int, default=TOP, help="log-probabilities that we keep")
    parser.add_argument("--within", type=float, default=0.02)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    tools = ensure_tools()
    with tempfile.TemporaryDirectory(prefix="llmperf-quality-") as name:
        folder = Path(name)
        model = (arguments.reference or resolve_model("smollm2-135m", Path.cwd())).absolute()
        same_model = arguments.type_k != "f16" or arguments.type_v != "f16"
        candidate = arguments.candidate or (model if same_model else coarser(model, folder))
        setting = Setting(
            model,
            candidate.absolute(),
            arguments.text.absolute(),
            arguments.chunk,
            arguments.chunk,
            arguments.threads,
            arguments.flash_attn == "on",
            arguments.type_k,
            arguments.type_v,
        )
        theirs = run_tool(tools, setting, folder)
        ours = run_ours(tools, setting, folder, arguments.top)
    lines, worst = table(theirs, ours)
    cache = f"KV cache {setting.type_k}, {setting.type_v}"
    print(f"{candidate.name} ({cache}) against {model.name}, chunks of {setting.chunk} tokens")
    print("\n".join(lines))
    print(f"within {arguments.within:.0%}: {'yes' if worst <= arguments.within else 'NO'}")
    if arguments.json:
        document = {"llama_perplexity": vars(theirs), "ours": vars(ours)}
        arguments.json.write_text(json.dumps(document, indent=1, default=list) + "\n")
    return 0 if worst <= arguments.within else 1


if __name__ == "__main__":
    exit_with(main, Exception)
