"""A repository whose application runs a real model, and commits that slow it by a known share."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.config.embedded import cache_dir, find_cached

_APP = '''"""Answers with a real model, token by token; each step may take a share longer."""

import os
import time

from llama_cpp import Llama

#: What a step of decoding, and the evaluation of the prompt, take longer.
DECODE = 0.0
PREFILL = 0.0

llm = Llama(
    os.environ["BENCH_MODEL"],
    n_ctx=256,
    n_threads=THREADS,
    n_threads_batch=THREADS,
    n_gpu_layers=GPU_LAYERS,
    verbose=False,
)


def step(tokens, share):
    """Evaluate tokens, pick the next, and keep the core busy for a share of the time that took."""
    began = time.perf_counter()
    llm.eval(tokens)
    token = llm.sample(temp=0.0)
    until = time.perf_counter() + share * (time.perf_counter() - began)
    while time.perf_counter() < until:
        pass
    return token


def answer(prompt, max_tokens):
    """Yield token ids."""
    llm.reset()
    token = step(llm.tokenize(prompt.encode()), PREFILL)
    yield token
    for _ in range(max_tokens - 1):
        token = step([token], DECODE)
        yield token
'''

_TEST = '''"""One perf test."""

import pytest

PROMPT = "Explain in a few words what a key value cache is good for when a model writes an answer."


@pytest.mark.perf
def test_answer(llm_engine):
    """A short answer."""
    llm_engine.generate(PROMPT, max_tokens=TOKENS)
'''

_CONFIG = """llm:
  engine: app
  target: app:answer
  n_threads: THREADS
  n_threads_batch: THREADS
perf:
  tolerance: TOLERANCE
  turns: TURNS
  iterations: 3
  budget: 10m
  accumulate: false
"""


#: Tokens that the prompt leaves in the application's context.
_MAX_TOKENS = 200


@dataclass(frozen=True)
class Application:
    """Settings of the application in a repository.

    Attributes:
        model: a GGUF file; the embedded model if None.
        gpu: whether all layers run on the GPU, with the engine of this Python.
        threads: of the engine.
        tokens: in an answer.
        tolerance: of its perf test, such as 2%.
        turns: what the processes of a pair take turns by (``perf.turns``).
    """

    model: Path | None = None
    gpu: bool = False
    threads: int = 2
    tokens: int = 16
    tolerance: str = "5%"
    turns: str = "tokens"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the options that describe an application."""
        parser.add_argument("--model", type=Path, help="a GGUF file (default: the embedded model)")
        parser.add_argument("--gpu", action="store_true", help="all layers on the GPU")
        parser.add_argument("--threads", type=int, default=2, help="of the engine (default 2)")
        parser.add_argument("--tokens", type=int, default=16, help="of an answer (default 16)")
        parser.add_argument("--turns", default="tokens", help="perf.turns (default tokens)")

    @classmethod
    def of(cls, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Application:
        """Return the application of a command line; invalid values end the program."""
        application = cls(
            arguments.model,
            arguments.gpu,
            arguments.threads,
            arguments.tokens,
            turns=arguments.turns,
        )
        if application.model is not None and not application.model.is_file():
            parser.error(f"--model: there is no file {application.model}")
        if application.threads < 1:
            parser.error(f"--threads: at least 1, got {application.threads}")
        if not 2 <= application.tokens <= _MAX_TOKENS:
            parser.error(f"--tokens: 2 to {_MAX_TOKENS}, got {application.tokens}")
        return application


class CommitRepository:
    """A git repository in ``folder``, and sessions in it.

    Args:
        folder: an empty folder, or one to be made.
        application: what is measured in it.
        environ: further variables of the sessions.
    """

    def __init__(self, folder: Path, application: Application, environ: Mapping[str, str]) -> None:
        model = application.model or find_cached("smollm2-135m")
        if model is None:
            raise SystemExit("the embedded model is not in the cache: llmperf model smollm2-135m")
        self.folder = folder
        self.environ = {
            **{name: text for name, text in os.environ.items() if not name.startswith("GIT_")},
            "BENCH_MODEL": str(model.absolute()),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_NAME": "bench" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "bench@example.org" for who in ("AUTHOR", "COMMITTER")},
            "LLMPERF_CACHE_DIR": str(cache_dir()),
            **environ,
        }
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        values = {
            "THREADS": application.threads,
            "GPU_LAYERS": -1 if application.gpu else 0,
            "TOKENS": application.tokens,
            "TOLERANCE": application.tolerance,
            "TURNS": application.turns,
        }
        for name, text in (("app.py", _APP), ("test_app.py", _TEST), ("config.yaml", _CONFIG)):
            filled = re.sub(
                rf"\b(?:{'|'.join(values)})\b", lambda match: str(values[match[0]]), text
            )
            (folder / name).write_text(filled, encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        self.commit("An application")

    def git(self, *arguments: str) -> str:
        """Run git and return what it printed."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Commit everything and return the hash."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def edit(self, old: str, new: str) -> None:
        """Replace a piece of the application's code."""
        file = self.folder / "app.py"
        text = file.read_text(encoding="utf-8")
        if old not in text:
            raise SystemExit(f"{old!r} is not in the application")
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a Python module in the repository, as a user would."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
