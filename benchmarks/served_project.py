"""A project whose one perf test asks a real llama.cpp server, and sessions in it."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slow_relay import free_port

ROOT = Path(__file__).resolve().parent.parent
SUPPORT = ROOT / "tests" / "support"
SERVER, RELAY = SUPPORT / "llama_server.py", ROOT / "benchmarks" / "slow_relay.py"
#: Seconds that a server has to load its model.
_LOAD_S = 60.0
_TEST = '''"""One perf test."""

import pytest


@pytest.mark.perf
def test_answer(llm_engine):
    """A short answer."""
    llm_engine.generate(
        "Explain in one paragraph why a small model can run on a laptop.", max_tokens=TOKENS
    )
'''


@dataclass(frozen=True)
class Served:
    """What a server serves, and how it is asked.

    Attributes:
        model: a GGUF file.
        tokens: in an answer.
        threads: of the server.
        context: of the server.
    """

    model: Path
    tokens: int = 64
    threads: int = 1
    context: int = 512

    def command(self, share: float | None = None, log: Path | None = None) -> list[str]:
        """Return the words of ``llm.start``.

        Args:
            share: by which a relay before the server makes its answers slower; None has no relay.
            log: of the relay.
        """
        port = "{port}" if share is None else "{inner}"
        server = ["{python}", str(SERVER), "--port", port, "--model", str(self.model)]
        server += ["--ctx", str(self.context), "--threads", str(self.threads)]
        if share is None:
            return server
        relay = ["{python}", str(RELAY), "--port", "{port}", "--share", f"{share:.4%}"]
        relay += [] if log is None else ["--log", str(log)]
        return [*relay, "--", *server]


def small_model() -> Path:
    """Return a tiny model of the tests that takes about 2 ms a token, written if absent.

    The tests' own is so fast that a server spends its time on HTTP.
    """
    sys.path.insert(0, str(SUPPORT))
    made: Path = importlib.import_module("tiny_models").tiny_llama(layers=4, width=384)
    return made


def listening(command: Sequence[str], port: int) -> list[str]:
    """Return a command with its placeholders filled in, as the plugin does it."""
    filled = {"{port}": str(port), "{python}": sys.executable}
    return [filled.get(word, word) for word in command]


@contextmanager
def running(command: Sequence[str], port: int, log: Path) -> Iterator[str]:
    """Run a server that sessions attach to; yield its address once it answers.

    Raises:
        SystemExit: it ended, or did not answer in a minute.
    """
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + _LOAD_S
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(
            listening(command, port), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as process,
    ):
        try:
            while not _is_up(url):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the server does not answer:\n{log.read_text()[-2000:]}")
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


class ServedProject:
    """A folder with the test, its configurations and its baselines.

    Args:
        folder: to be made.
        served: what the test asks.
        perf: further keys of ``perf``.
    """

    def __init__(self, folder: Path, served: Served, perf: Mapping[str, Any]) -> None:
        self.folder = folder
        self._served = served
        self._perf = {"accumulate": False, **perf}
        folder.mkdir(parents=True)
        text = _TEST.replace("TOKENS", str(served.tokens))
        (folder / "test_answer.py").write_text(text, encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        self.port = free_port()

    def configure(self, name: str, **llm: Any) -> None:
        """Write a configuration whose server is given by ``start`` or ``url``."""
        section = {"engine": "server", "api": "completions", **llm}
        # JSON is YAML.
        text = json.dumps({"llm": section, "perf": self._perf})
        (self.folder / name).write_text(text, encoding="utf-8")

    def start(self, name: str, command: Sequence[str]) -> None:
        """Write a configuration that starts a server for each sample."""
        self.configure(name, start=shlex.join(command))

    def session(self, *arguments: str) -> tuple[dict[str, Any], float]:
        """Run a session; return its report and its wall time in seconds.

        Raises:
            SystemExit: there is no report.
        """
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        began = time.monotonic()
        words = ["-m", "pytest", "-q", "-m", "perf", *arguments, f"--llmperf-json={report}"]
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={name: text for name, text in os.environ.items() if name[:8] != "LLMPERF_"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists():
            raise SystemExit(f"no report:\n{done.stdout}{done.stderr}")
        document: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return document, time.monotonic() - began
