"""Names of files reach the terminal without their control characters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from baseline_folders import Folder, name_of

from pytest_llmperf.cli import main
from pytest_llmperf.cli.output import say

ESCAPE = "\x1b[2J"


def test_what_is_said_holds_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"a{ESCAPE}b\nnext line")
    assert capsys.readouterr().out == "a\\x1b[2Jb\nnext line\n"


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_files_to_prune_are_named_safely(folder: Folder, baseline: Any) -> None:
    for day in range(1, 17):
        path = folder.record(day)
    fifth = path.with_name(name_of(5))
    fifth.rename(fifth.with_name(f"{ESCAPE}.json"))
    printed = baseline("prune", "--keep", "10")
    assert "\\x1b[2J.json" in printed.out
    assert ESCAPE not in printed.out + printed.err
    assert ESCAPE not in baseline("prune", "--keep", "10", "--yes").out


def test_a_model_nobody_knows_is_named_safely(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", f"x{ESCAPE}"]) == 1
    assert ESCAPE not in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_a_folder_without_sessions_is_named_safely(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(ESCAPE).mkdir()
    assert main(["compare", ESCAPE, "x", "--output", "out.txt"]) == 2
    printed = capsys.readouterr()
    assert "\\x1b[2J: no session is recorded there" in printed.err
    assert ESCAPE not in printed.out + printed.err + Path("out.txt").read_text()
