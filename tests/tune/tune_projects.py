"""Projects in which ``llmperf tune`` is run as a user runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from tiny_models import tiny_llama

COMMAND = (sys.executable, "-m", "pytest_llmperf.cli", "tune")
TEST = """
import pytest

@pytest.mark.perf
@pytest.mark.first_token(max="1us")
def test_short(llm_engine):
    llm_engine.generate("A question about caches. " * 6, max_tokens=4)
"""
#: Other load on this machine voids no pair here; its checks have tests of their own.
CONFTEST = """
import pytest_llmperf.session.machine_watch as machine_watch

machine_watch.judge = machine_watch.judge_host = lambda *_: []
"""


def configure(folder: Path, space: dict[str, object], **llm: object) -> None:
    """Write a config.yaml with a space to search and the engine's settings."""
    content = {
        "llm": {
            # At this width a prompt takes four times as long token by token, on any machine.
            "model_path": str(tiny_llama(width=512, name="wide-llama")),
            "n_ctx": 512,
            "n_threads": 1,
            "n_threads_batch": 1,
            "max_tokens": 8,
            **llm,
        },
        "perf": {
            "turns": "processes",
            "iterations": 3,
            "warmup_max": 2,
            "processes": 2,
            "max_pairs": 8,
        },
        "tune": {"space": space, "budget": "90s"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
