"""Load tools for servers, each in an environment of its own, asked the same as this project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools_env import ROOT, SetupError, cache_root, ensure_venv, run

VERSION = "0.8.1"


@dataclass(frozen=True)
class Latencies:
    """What a tool measured of some answers, in seconds, one value each.

    Attributes:
        first: to the first token.
        per_token: between tokens, after the first.
    """

    first: tuple[float, ...]
    per_token: tuple[float, ...]


class GuideLlm:
    """GuideLLM, installed into the cache folder when it is first asked for.

    Raises:
        SetupError: it can't be installed here.
    """

    name = f"GuideLLM {VERSION}"
    #: By its source (backends/openai/http.py, schemas/base/request_stats.py).
    definitions: Mapping[str, str] = {
        "first token": "first line with text, when httpx has split it, - start of writing the "
        "request's headers (time.time)",
        "time per token": "(last line with text - first one) / (n - 1), n by the server's usage",
    }

    def __init__(self) -> None:
        tag = f"py{sys.version_info[0]}{sys.version_info[1]}"
        home = cache_root(dict(os.environ)) / "tools" / f"guidellm-{VERSION}-{tag}"
        self._python = ensure_venv(home, ROOT)
        pip = [str(self._python), "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
        run(f"installing guidellm {VERSION} (with PyTorch)", [*pip, f"guidellm=={VERSION}"], ROOT)

    def measure(
        self, url: str, model: str, prompts: Sequence[str], tokens: int, folder: Path
    ) -> Latencies:
        """Send the prompts one at a time; return its figures.

        Raises:
            SetupError: it failed.
        """
        scenario, results = folder / "scenario.json", folder / "benchmarks.json"
        requests = folder / "requests.json"
        requests.write_text(
            "".join(
                json.dumps({"prompt": prompt, "output_tokens_count": tokens}) + "\n"
                for prompt in prompts
            ),
            encoding="utf-8",
        )
        scenario.write_text(
            json.dumps({"spec": specification(url, model, requests, len(prompts), results)}),
            encoding="utf-8",
        )
        results.unlink(missing_ok=True)
        words = ["-m", "guidellm", "run", "--config", str(scenario), "--disable-console"]
        done = subprocess.run(
            [str(self._python), *words],
            cwd=folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if not results.exists():
            said = f"{done.stdout}{done.stderr}".splitlines()[-15:]
            raise SetupError("\n".join([f"{self.name} wrote no results:", *said]))
        return latencies_of(json.loads(results.read_text(encoding="utf-8")))


def specification(url: str, model: str, file: Path, count: int, results: Path) -> dict[str, Any]:
    """Return what GuideLLM is to do: the requests of a file, one at a time."""
    extras = {"body": {"cache_prompt": False, "temperature": 0.0}}
    return {
        "backend": {
            "kind": "openai_http",
            "target": url,
            "model": model,
            "request_format": "/v1/completions",
            "http2": False,
            "extras": extras,
        },
        "profile": {"kind": "synchronous"},
        "constraints": [{"kind": "max_requests", "count": count}],
        "data": [{"kind": "json_file", "path": str(file)}],
        "outputs": [{"kind": "json", "path": str(results)}],
    }


def latencies_of(results: Mapping[str, Any]) -> Latencies:
    """Return the figures of single requests from GuideLLM's results.

    Raises:
        SetupError: a request failed, or there is none.
    """
    (benchmark,) = results["benchmarks"]
    requests = benchmark["requests"]
    answered = requests["successful"]
    if requests["errored"] or not answered:
        raise SetupError(
            f"GuideLLM: {len(requests['errored'])} requests failed, {len(answered)} were answered"
        )
    return Latencies(
        tuple(one["time_to_first_token_ms"] / 1000.0 for one in answered),
        tuple(one["inter_token_latency_ms"] / 1000.0 for one in answered),
    )
