"""A repository with a real model in an application, and commits that slow it by a known share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pytest_llmperf.config.embedded import cache_dir, find_cached

_APP = '''"""Answers with a real model, token by token; each step may take a share longer."""

import os
import time

from llama_cpp import Llama, llama_synchronize

#: What a step of decoding, and the evaluation of the prompt, take longer.
DECODE = 0.0
PREFILL = 0.0

llm = Llama(
    os.environ["BENCH_MODEL"],
    n_ctx=256,
    n_threads=THREADS,
    n_threads_batch=THREADS,
    n_gpu_layers=int(os.environ.get("BENCH_GPU_LAYERS", "0")),
    verbose=False,
)


def evaluate(tokens, share):
    """Evaluate tokens, and keep the core busy for a share of the time that took."""
    began = time.perf_counter()
    llm.eval(tokens)
    llama_synchronize(llm.ctx)
    until = time.perf_counter() + share * (time.perf_counter() - began)
    while time.perf_counter() < until:
        pass


def answer(prompt, max_tokens=16):
    """Yield token ids."""
    tokens = llm.tokenize(prompt.encode())
    llm.reset()
    evaluate(tokens, PREFILL)
    for _ in range(max_tokens):
        token = llm.sample(temp=0.0)
        yield token
        evaluate([token], DECODE)
'''

_TEST = '''"""One perf test."""

import pytest

PROMPT = "Explain in a few words what a key value cache is good for when a model writes an answer."


@pytest.mark.perf
def test_answer(llm_engine):
    """A short answer."""
    llm_engine.generate(PROMPT, max_tokens=16)
'''

_CONFIG = """llm:
  engine: app
  target: app:answer
  n_threads: THREADS
  n_threads_batch: THREADS
perf:
  budget: 10m
  accumulate: false
"""


class CommitRepository:
    """A git repository in ``folder``, and sessions in it.

    Args:
        folder: an empty folder, or one to be made.
        threads: of the engine.
        environ: further variables of the sessions. ``BENCH_GPU_LAYERS=-1``, there or in this
            process's own, has the application use a GPU.
    """

    def __init__(self, folder: Path, threads: int, environ: Mapping[str, str]) -> None:
        model = find_cached("smollm2-135m")
        if model is None:
            raise SystemExit("the embedded model is not in the cache: llmperf model smollm2-135m")
        self.folder = folder
        self.environ = {
            **{name: text for name, text in os.environ.items() if not name.startswith("GIT_")},
            "BENCH_MODEL": str(model),
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
        for name, text in (("app.py", _APP), ("test_app.py", _TEST), ("config.yaml", _CONFIG)):
            (folder / name).write_text(text.replace("THREADS", str(threads)), encoding="utf-8")
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
