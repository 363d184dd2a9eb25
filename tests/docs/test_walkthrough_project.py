"""The project of docs/walkthrough.md can be measured on both of its branches."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from examples.make_chat import main as make_chat
from pytest_llmperf.cli import main


def test_both_branches_have_a_valid_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_chat(tmp_path / "chat")
    monkeypatch.chdir(tmp_path / "chat")
    for branch, batch in (("main", "-b 128"), ("less-memory", "-b 1 ")):
        subprocess.run(["git", "switch", "--quiet", branch], check=True)
        status = main(["export", "llama-server"])
        shown = capsys.readouterr()
        assert (status, batch in shown.out) == (0, True), shown
