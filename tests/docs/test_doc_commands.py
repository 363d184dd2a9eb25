"""The shell blocks of the documentation that take seconds run as they stand, in a small project."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from doc_blocks import Block, blocks, run
from tiny_models import tiny_llama

#: The file name of a recorded session.
_SESSION = re.compile(r"20\d{6}T\d{6}Z_[0-9a-f]{12}\.json")
TEST = """
import pytest

@pytest.mark.perf
def test_short(llm_engine):
    llm_engine.generate("a", max_tokens=8)
"""
CONFIG = """
llm: {{model_path: {model}, n_ctx: 512, n_threads: 1, n_threads_batch: 1}}
perf: {{processes: 1, max_processes: 1, iterations: 3, warmup_max: 2}}
"""
CONFTEST = """
import pytest_llmperf.session.machine_watch as machine_watch

machine_watch.judge = machine_watch.judge_host = lambda *_: []
"""


class Shell:
    """Runs shell text in a folder, with this environment's programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "LLMPERF_CACHE_DIR": str(folder / ".cache"),
            "LLMPERF_DEVICE_LOCK": str(folder / ".lock"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_EDITOR": "echo baseline >",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
        }  # fmt: skip

    def __call__(self, text: str, *statuses: int) -> str:
        done = run(self.folder, "bash", "-c", text, **self.variables)
        printed = f"$ {text}\n{done.stdout}{done.stderr}"
        assert done.returncode in (statuses or (0,)), printed
        return printed


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A repository with two commits, each with a recorded session of the same test."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_chat.py").write_text(TEST)
    (folder / "config.yaml").write_text(CONFIG.format(model=tiny_llama()))
    (folder / "conftest.py").write_text(CONFTEST)
    # Hypothesis is imported completely at the end of every session, which takes a second.
    addopts = "-p no:cacheprovider -p no:hypothesispytest"
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = {addopts}\n")
    (folder / ".gitignore").write_text(".cache\n.lock\n__pycache__\n*.json\n!perf_baselines/**\n")
    shell = Shell(folder)
    shell("git init -q -b main && git add . && git commit -qm one && git tag v1.4")
    shell("pytest -q -m perf --llmperf-record --llmperf-json before.json")
    shell(
        "git add . && git commit -qm 'baseline one' && git update-ref refs/remotes/origin/main HEAD"
    )
    shell("git checkout -qb work")
    shell(
        "pytest -q -m perf --llmperf-record --llmperf-confirm never --llmperf-json after.json", 0, 1
    )
    shell("git add . && git commit -qm 'baseline two'")
    # The other folder has a session that the work tree's lacks.
    shutil.copytree(folder / "perf_baselines", folder / "other_baselines")
    max(folder.glob("perf_baselines/*/*.json")).unlink()
    return shell


def of_project(name: str) -> list[Block]:
    return [block for block in blocks() if block.runs == name]


@pytest.mark.parametrize("block", of_project("project"), ids=lambda block: block.where)
def test_the_commands_run(block: Block, shell: Shell) -> None:
    sessions = sorted(path.name for path in shell.folder.glob("perf_baselines/*/*.json"))
    text = _SESSION.sub(sessions[-1], block.text)
    for command in text.replace("\\\n", " ").strip().splitlines():
        # On a busy machine a comparison may find a change.
        statuses = (0, 1) if command.startswith(("llmperf compare", "pytest")) else (0,)
        printed = shell(command, *statuses)
        assert "Traceback" not in printed


@pytest.mark.parametrize("page", ["README.md", "docs/first-hour.md"])
def test_the_way_to_the_first_verdict_runs(page: str, tmp_path: Path) -> None:
    """Write the files of the page, then run its commands, with a tiny model."""
    of_page = [block for block in blocks() if block.page == page]
    config = next(block.text for block in of_page if block.language == "yaml")
    code = next(block.text for block in of_page if block.language == "python")
    fast = "\n  n_threads: 1\n  n_threads_batch: 1\nperf: {processes: 1, max_processes: 1}\n"
    config = config.replace("smollm2-135m", str(tiny_llama()))
    (tmp_path / "config.yaml").write_text(re.sub(r"\s*(#.*)?$", "", config) + fast)
    (tmp_path / "test_speed.py").write_text(code)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    shell = Shell(tmp_path)
    outputs = [shell(block.text, 0) for block in of_page if block.runs]
    assert outputs
    assert "1 test, " in outputs[0]
    assert list(tmp_path.glob("perf_baselines/*/*.json"))
