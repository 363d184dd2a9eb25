"""Other load tools for servers, each in its own environment, given the same work as ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tools_env import ROOT, SetupError, cache_root, ensure_venv, run


class LoadTool(Protocol):
    """A tool that sends a load.

    Attributes:
        name: with its version.
        environment: environment variables that it needs.
    """

    name: str
    environment: Mapping[str, str]

    def sending(self, url: str, requests: int, at_once: int, folder: Path) -> list[str]:
        """Return the command that sends ``requests`` chats with answers of one token."""
        ...


def installed(package: str, version: str, what: str = "") -> Path:
    """Return the interpreter of a tool's own environment, which is made at the first call.

    Raises:
        SetupError: it can't be installed here.
    """
    tag = f"py{sys.version_info[0]}{sys.version_info[1]}"
    home = cache_root(dict(os.environ)) / "tools" / f"{package}-{version}-{tag}"
    python = ensure_venv(home, ROOT)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
    run(f"installing {package} {version}{what}", [*pip, f"{package}=={version}"], ROOT)
    return python


@dataclass(frozen=True)
class Latencies:
    """Latencies that a tool measured, in seconds, one value per answer.

    Attributes:
        first: to the first token.
        per_token: between tokens, after the first.
    """

    first: tuple[float, ...]
    per_token: tuple[float, ...]


class Paced(NamedTuple):
    """Times of a request that was sent on a schedule, in Unix seconds.

    Attributes:
        due: when it was to be sent.
        sent: when it was.
        first: arrival of its first token.
    """

    due: float
    sent: float
    first: float


#: File to which GuideLLM writes its results.
_RESULTS = "benchmarks.json"


class GuideLlm:
    """GuideLLM, installed into the cache folder at the first use.

    Raises:
        SetupError: it can't be installed here.
    """

    version = "0.8.1"
    name = f"GuideLLM {version}"
    environment: Mapping[str, str] = {"HF_HUB_OFFLINE": "1"}
    #: Definitions in its source (backends/openai/http.py, schemas/base/request_stats.py).
    definitions: Mapping[str, str] = {
        "first token": "first line with text, when httpx has split it, - start of writing the "
        "request's headers (time.time)",
        "time per token": "(last line with text - first one) / (n - 1), n by the server's usage",
    }

    def __init__(self) -> None:
        self._python = installed("guidellm", self.version, " (with PyTorch)")

    def measure(
        self, url: str, model: str, prompts: Sequence[str], tokens: int, folder: Path
    ) -> Latencies:
        """Send the prompts one at a time; return the measured latencies.

        Raises:
            SetupError: it failed.
        """
        requests = request_file(folder, prompts, tokens)
        spec = specification(url, model, requests, len(prompts), folder / _RESULTS)
        return latencies_of(self._run(spec, folder))

    def paced(
        self, url: str, rate: float, requests: int, at_once: int, tokens: int, folder: Path
    ) -> list[Paced]:
        """Send requests at random times, at most ``at_once`` in flight; return the times of each.

        Raises:
            SetupError: it failed.
        """
        file = request_file(folder, ["hi"] * requests, tokens)
        spec = specification(url, "m", file, requests, folder / _RESULTS)
        spec["profile"] = {"kind": "poisson", "rate": [rate], "max_concurrency": at_once}
        spec["backend"]["validate_backend"] = False
        return paced_of(self._run(spec, folder))

    def _run(self, spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        results = folder / _RESULTS
        results.unlink(missing_ok=True)
        done = subprocess.run(
            self._command(spec, folder),
            cwd=folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if not results.exists():
            printed = f"{done.stdout}{done.stderr}".splitlines()[-15:]
            raise SetupError("\n".join([f"{self.name} wrote no results:", *printed]))
        document: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
        return document

    def sending(self, url: str, requests: int, at_once: int, folder: Path) -> list[str]:
        """Return the command that sends ``requests`` chats with answers of one token."""
        file = request_file(folder, ["hi"] * requests, 1)
        spec = specification(url, "m", file, requests, folder / _RESULTS)
        spec["profile"] = {"kind": "concurrent", "streams": [at_once]}
        spec["backend"]["request_format"] = "/v1/chat/completions"
        return self._command(spec, folder)

    def _command(self, spec: Mapping[str, Any], folder: Path) -> list[str]:
        scenario = folder / "scenario.json"
        scenario.write_text(json.dumps({"spec": spec}), encoding="utf-8")
        words = ["-m", "guidellm", "run", "--config", str(scenario), "--disable-console"]
        return [str(self._python), *words]


class AiPerf:
    """AIPerf, installed into the cache folder at the first use.

    Raises:
        SetupError: it can't be installed here.
    """

    version = "0.13.0"
    name = f"AIPerf {version}"
    #: Offline it would take the tokenizer's folder for a name on the hub.
    environment: Mapping[str, str] = {}

    def __init__(self) -> None:
        self._python = installed("aiperf", self.version)

    def sending(self, url: str, requests: int, at_once: int, folder: Path) -> list[str]:
        """Return the command that sends ``requests`` chats with answers of one token."""
        words = ["profile", "--model", "m", "--url", url, "--endpoint-type", "chat", "--streaming"]
        words += ["--tokenizer", str(word_tokenizer(folder / "tokenizer"))]
        words += ["--concurrency", str(at_once)]
        words += ["--request-count", str(requests), "--artifact-dir", str(folder / "aiperf")]
        for which, tokens in (("synthetic-input", 8), ("output", 1)):
            words += [f"--{which}-tokens-mean", str(tokens), f"--{which}-tokens-stddev", "0"]
        words += ["--ui", "none", "--export-level", "summary"]
        return [
            str(self._python.with_name("aiperf")),
            *words,
            *("--no-gpu-telemetry", "--no-server-metrics"),
        ]


#: By the name of their package.
TOOLS: Mapping[str, Callable[[], LoadTool]] = {"guidellm": GuideLlm, "aiperf": AiPerf}


def word_tokenizer(folder: Path) -> Path:
    """Write a tokenizer for which each word is a token; return its folder.

    AIPerf counts tokens itself, and its own tokenizer is a download.
    """
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "hi": 1}, "unk_token": "[UNK]"}
    parts = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}}
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps({**empty, **parts, "model": model}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def request_file(folder: Path, prompts: Sequence[str], tokens: int) -> Path:
    """Write requests in GuideLLM's format; return the file."""
    file = folder / "requests.json"
    lines = (json.dumps({"prompt": text, "output_tokens_count": tokens}) + "\n" for text in prompts)
    file.write_text("".join(lines), encoding="utf-8")
    return file


def specification(url: str, model: str, file: Path, count: int, results: Path) -> dict[str, Any]:
    """Return GuideLLM's settings for sending the requests of a file, one at a time."""
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


def answered_of(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the answered requests of GuideLLM's results.

    Raises:
        SetupError: a request failed, or there is none.
    """
    (benchmark,) = results["benchmarks"]
    requests = benchmark["requests"]
    answered: list[dict[str, Any]] = requests["successful"]
    if requests["errored"] or not answered:
        raise SetupError(
            f"GuideLLM: {len(requests['errored'])} requests failed, {len(answered)} were answered"
        )
    return answered


def paced_of(results: Mapping[str, Any]) -> list[Paced]:
    """Return when the requests of GuideLLM's results were due, sent and answered.

    It reports the time to the first token since ``request_start``.

    Raises:
        SetupError: a request failed, or there is none.
    """
    requests = []
    for request in answered_of(results):
        timings = request["info"]["timings"]
        sent = timings["request_start"]
        first = sent + request["time_to_first_token_ms"] / 1000.0
        requests.append(Paced(timings["targeted_start"], sent, first))
    return requests


def latencies_of(results: Mapping[str, Any]) -> Latencies:
    """Return the latencies of single requests from GuideLLM's results.

    Raises:
        SetupError: a request failed, or there is none.
    """
    answered = answered_of(results)
    return Latencies(
        tuple(request["time_to_first_token_ms"] / 1000.0 for request in answered),
        tuple(request["inter_token_latency_ms"] / 1000.0 for request in answered),
    )
