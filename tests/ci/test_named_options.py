"""The options and report forms named in the written files exist."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ci_files import ACTION, GITLAB

from pytest_llmperf.cli import main


def test_options_and_reports_that_the_files_ask_for_exist(
    init: Callable[..., int], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init("github")
    init("gitlab")
    text = "\n".join((repository / name).read_text() for name in (ACTION, GITLAB))
    options = set(re.findall(r"--llmperf-[\w-]+", text))
    assert len(options) >= 7
    pytest_options = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True
    )
    assert options <= set(re.findall(r"--llmperf-[\w-]+", pytest_options.stdout))
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    forms = set(re.findall(r"\breport (--\w+)", text))
    assert forms == {"--markdown", "--github", "--gitlab"}
    assert forms <= set(re.findall(r"--\w+", capsys.readouterr().out))
