"""The Python blocks of the documentation run: tests in a session, modules by their import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import Block, blocks, run
from test_doc_blocks import is_test
from tiny_models import tiny_llama

CONFIG = f"""
llm: {{model_path: {tiny_llama()}, n_ctx: 512, n_threads: 1, n_threads_batch: 1}}
perf: {{processes: 1, max_processes: 8, iterations: 3, warmup_max: 2}}
quality: {{reference: {{n_batch: 64}}}}
"""
CONFTEST = """
import acme_metrics
import pytest_llmperf.session.machine_watch as machine_watch

# What else runs on this machine is not the point here.
machine_watch.judge = machine_watch.judge_host = lambda *_: []
"""


def shown_tests() -> list[Block]:
    return [block for block in blocks() if is_test(block) and not block.not_run]


def module(name: str) -> str:
    """Return the module that a page shows under this name."""
    (shown,) = [
        block
        for block in blocks()
        if block.language == "python" and block.text.startswith(f"# {name}.py\n")
    ]
    return shown.text


def run_pytest(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder; its report is ``o.json`` there."""
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--llmperf-json", "o.json")
    return run(folder, *command, *options, LLMPERF_DEVICE_LOCK=str(folder / "lock"), **variables)


def test_the_tests_run_and_are_measured(tmp_path: Path) -> None:
    shown = shown_tests()
    assert len(shown) >= 6
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "acme_metrics.py").write_text(module("acme_metrics"))
    for number, block in enumerate(shown):
        # Placeholders send no request; a measured test must.
        text = block.text.replace(
            "(llm_engine): ...", '(llm_engine):\n    llm_engine.generate("a")'
        )
        # Fewer cells and tokens are enough to show that it works.
        for long, short in (
            ("[512, 1024, 2048]", "[64]"),
            ("[1024, 2048, 4096]", "[128, 256]"),
            ('"word " * 800', '"word " * 8'),
        ):
            text = text.replace(long, short)
        (tmp_path / f"test_block_{number}.py").write_text(f"import pytest\n{text}")
    options = ("-m", "perf or not perf", "--llmperf-set", "llm.max_tokens=40")
    done = run_pytest(tmp_path, *options)
    report = json.loads((tmp_path / "o.json").read_text())
    errors = [test["nodeid"] for test in report["tests"] if test["verdict"] == "error"]
    assert errors == [], done.stdout
    assert len(report["tests"]) >= 5
    assert "ERROR" not in done.stdout
    assert done.returncode in (0, 1), done.stdout


def test_the_modules_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [block for block in blocks() if block.runs == "module"]
    assert len(shown) >= 2
    for block in shown:
        name = block.text.partition(".py")[0].removeprefix("# ")
        (tmp_path / f"{name}.py").write_text(block.text)
        done = run(tmp_path, sys.executable, "-c", f"import {name}")
        assert done.returncode == 0, done.stderr


def test_the_application_is_measured_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "chat_app.py").write_text(module("chat_app"))
    (tmp_path / "conftest.py").write_text(CONFTEST.replace("import acme_metrics\n", ""))
    (tmp_path / "config.yaml").write_text(
        "llm: {engine: app, target: 'chat_app:answer'}\n"
        "perf: {processes: 1, max_processes: 2, max_pairs: 2, warmup_max: 1, turns: tokens}\n"
    )
    (tmp_path / "test_chat.py").write_text(
        "import pytest\n\n\n@pytest.mark.tokens_per_sec(min=1)\n"
        "def test_chat(llm_engine):\n    llm_engine.generate('hello', max_tokens=24)\n"
    )
    options = ("-m", "perf", "-v", "--llmperf-against-config", "config.yaml")
    done = run_pytest(tmp_path, *options, CHAT_MODEL=str(tiny_llama()))
    (test,) = json.loads((tmp_path / "o.json").read_text())["tests"]
    assert test["verdict"] not in ("error", "invalid"), done.stdout
    assert "ran one after the other from then on" not in done.stdout
