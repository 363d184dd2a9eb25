"""Other tuners of llama.cpp, in an environment of their own, with the tools build's programs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools_env import ROOT, SetupError, ToolsEnvironment, cache_root, ensure_tools, ensure_venv, run

VERSIONS = {"llama-optimus": "0.1.9", "fituna": "0.3.6"}
#: Runs llama-optimus with other ranges of its settings, for which it has no options.
_OPTIMUS = """
import json, sys
from llama_optimus.search_space import SEARCH_SPACE
SEARCH_SPACE.update(json.loads(sys.argv.pop(1)))
from llama_optimus.cli import main
main()
"""
_BEST = re.compile(r"Best config Stage_(\d): (\{.*\})")


@dataclass(frozen=True)
class Reached:
    """The best point of another tuner.

    Attributes:
        settings: of ``llm``; empty if it found none.
        seconds: until it named the point.
        claim: the tuner's own words about the point.
        error: why it found none.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    claim: str = ""
    error: str = ""


class OtherTuners:
    """Installs and runs other tuners.

    Raises:
        SetupError: the tools build, or the environment, can't be made.
    """

    def __init__(self) -> None:
        self._tools: ToolsEnvironment = ensure_tools()
        tag = f"py{sys.version_info[0]}{sys.version_info[1]}"
        home = cache_root(dict(os.environ)) / "tools" / f"other-tuners-{tag}"
        self._python = ensure_venv(home, ROOT)
        self._missing = {name: self._installed(name) for name in VERSIONS}

    def _installed(self, name: str) -> str:
        """Install a tuner; return why that failed, or an empty string."""
        pip = [str(self._python), "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
        try:
            run(f"installing {name}", [*pip, f"{name}=={VERSIONS[name]}"], ROOT)
        except SetupError as error:
            return str(error)
        return ""

    def llama_optimus(
        self, model: Path, ranges: Mapping[str, Any], tokens: int, trials: int
    ) -> Reached:
        """Search threads, batches and flash attention for the mean of both speeds."""
        if why := self._missing["llama-optimus"]:
            return Reached(error=why)
        command = [str(self._python), "-c", _OPTIMUS, json.dumps(ranges)]
        command += ["--llama-bin", str(self._tools.llama_bench.parent), "--model", str(model)]
        command += ["--metric", "mean", "--n-tokens", str(tokens), "--trials", str(trials)]
        command += ["--ngl-max", "0", "--override-mode", "none", "--no-warmup"]
        began = time.monotonic()
        best: dict[str, dict[str, Any]] = {}
        claim, seconds, lines = "", 0.0, list[str]()
        with subprocess.Popen(
            command,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip())
                if (match := _BEST.match(line)) is not None:
                    best[match[1]] = ast.literal_eval(match[2])
                if line.startswith("Best Stage_3"):
                    # Only two runs of llama-bench follow, for the user to look at.
                    seconds, claim = time.monotonic() - began, line.strip()
                    process.terminate()
        if not claim:
            return Reached(error="\n".join(lines[-5:]) or "it printed nothing")
        point = best["3"]
        settings = {
            "n_threads": point["threads"],
            "n_threads_batch": point["threads"],
            "n_batch": point["batch"],
            "n_ubatch": min(point["u_batch"], point["batch"]),
            # From its second stage, as in the command that it prints.
            "flash_attn": bool(best["2"]["flash_attn"]),
        }
        return Reached(settings, seconds, claim)

    def fituna(
        self, model: Path, kinds: Sequence[str], context: int, target: float, folder: Path
    ) -> Reached:
        """Search the quantization of best quality that meets a target of tokens per second."""
        if why := self._missing["fituna"]:
            return Reached(error=why)
        text = folder / "text.txt"
        text.write_text((ROOT / "docs" / "measuring.md").read_text())
        command = [str(self._python), "-m", "fituna", "run", "--model", str(model), "--json"]
        command += ["--llama-bin-dir", str(self._tools.llama_bench.parent), "--gpu", "none"]
        command += ["--quant", ",".join(kinds), "--ctx", str(context), "--ppl-chunks", "2"]
        command += ["--quality-corpus", str(text), "--out", str(folder / "fituna")]
        command += ["--target-tps", f"{target:.2f}", "--max-quality-loss", "100"]
        began = time.monotonic()
        done = subprocess.run(
            command,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - began
        try:
            data = json.loads(done.stdout)
            settings = {"model_path": data["gguf_path"]}
            speed, met = data["bench"]["gen_tok_per_sec"], data["meets_target"]
        except (ValueError, KeyError, TypeError):
            printed = [*done.stdout.splitlines(), *done.stderr.splitlines()]
            return Reached(seconds=seconds, error="\n".join(printed[-5:]))
        return Reached(
            settings, seconds, f"{speed:.1f} tok/s, the target is {'met' if met else 'missed'}"
        )

    def _environ(self) -> dict[str, str]:
        return {**os.environ, "LD_LIBRARY_PATH": self._tools.library_path}
