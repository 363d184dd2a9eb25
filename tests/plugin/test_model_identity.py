"""The identity of a model in stored sessions: the contents of all files it is made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from plugin_projects import Project
from tiny_models import tiny_llama, tiny_lora

pytestmark = pytest.mark.usefixtures("quiet_machine")

CONFIG = """
llm:
  model_path: tiny-llama-00001-of-00003.gguf
  n_ctx: 128
  max_tokens: 8
  n_threads: 1
  n_threads_batch: 1
perf:
  processes: 1
"""


@pytest.fixture
def tiny(project: Project) -> Project:
    """A project with a split model, an adapter, and one test."""
    for file in tiny_llama(shards=3).parent.iterdir():
        shutil.copy(file, project.path)
    shutil.copy(tiny_lora(), project.path / "adapter.gguf")
    project.configure(CONFIG)
    project.write(
        test_it="""
        @pytest.mark.tokens_per_sec(tolerance="90%")
        def test_answer(llm_engine):
            llm_engine.generate("Hi")
        """
    )
    return project


def replace_end(file: Path) -> None:
    """Overwrite the last weights in a file, whose size stays the same."""
    file.write_bytes(file.read_bytes()[:-64] + bytes(64))


def test_a_baseline_is_of_all_parts_of_the_model(tiny: Project) -> None:
    tiny.perf("--llmperf-record")
    (record,) = tiny.baselines()
    size = sum(file.stat().st_size for file in tiny.path.glob("tiny-llama-*.gguf"))
    assert json.loads(record.read_text())["model"]["size_bytes"] == size
    tiny.perf()
    assert tiny.verdicts() != {"test_answer": "no baseline"}
    replace_end(tiny.path / "tiny-llama-00002-of-00003.gguf")
    result = tiny.perf()
    assert tiny.verdicts() == {"test_answer": "no baseline"}
    result.stdout.fnmatch_lines(["*refused: model: base tiny-llama-00001-of-00003 (SHA-256*"])


def test_a_baseline_is_of_the_adapter_too(tiny: Project) -> None:
    adapter = ("--llmperf-set", "llm.extra={lora_path: adapter.gguf}")
    tiny.perf("--llmperf-record", *adapter)
    tiny.perf(*adapter)
    assert tiny.verdicts() != {"test_answer": "no baseline"}
    shutil.copy(tiny_lora(seed=1), tiny.path / "adapter.gguf")
    tiny.perf(*adapter)
    assert tiny.verdicts() == {"test_answer": "no baseline"}


def test_a_missing_part_is_said_before_anything_is_loaded(tiny: Project) -> None:
    tiny.path.joinpath("tiny-llama-00003-of-00003.gguf").unlink()
    result = tiny.perf()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: llmperf: config.yaml:3: llm.model_path: *the model is in 3 files, of which "
            "tiny-llama-00003-of-00003.gguf is missing in *"
        ]
    )
