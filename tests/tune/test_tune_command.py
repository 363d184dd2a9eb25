"""``llmperf tune`` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from tune_projects import COMMAND, configure


def test_the_projects_tests_are_the_workload(project: pytest.Pytester) -> None:
    configure(project.path, {"n_batch": [1, 512]}, n_batch=1)
    options = ("--phase", "1", "--json", "out.json")
    result = project.run(*COMMAND, *options, "--", "-k", "short", timeout=150)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*point 1 (batch_small): n_batch: 512*",
            "improved: first token *faster*in * fresh pairs*",
            "*first token*at most 1 µs*missed → missed",
            "settings to use",
            "llm:",
            "  n_batch: 512",
        ]
    )
    written = json.loads((project.path / "out.json").read_text())
    assert written["winner"]["changed"] == {"n_batch": 512}
    assert written["targets"][0]["test"] == "test_caches.py::test_short"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-tokens", "4"], "--max-tokens is for --prompt"),
        (["--prompt", "a", "--set", "tune.space.n_btach=[1]"], "did you mean 'n_batch'?"),
        (
            ["--prompt", "a", "--set", "tune.max_kl=0.1", "--set", "quality.text=none.txt"],
            "tune.max_kl can't be checked: the text",
        ),
        (["--prompt", "a", "--config", "none.yaml"], "no such file"),
        (["--prompt", "a", "--set", "llm.model_path=none.gguf"], "no such file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    project: pytest.Pytester, arguments: list[str], message: str
) -> None:
    configure(project.path, {})
    result = project.run(*COMMAND, *arguments, timeout=60)
    assert result.ret == 2
    assert message in result.stderr.str()


def test_a_killed_search_goes_on_with_what_it_had_measured(project: pytest.Pytester) -> None:
    configure(project.path, {"n_batch": [1, 16, 64, 512]}, n_batch=1)
    prompt = project.path / "prompt.txt"
    prompt.write_text("A question about caches. " * 12)
    command = [*COMMAND, "--prompt", str(prompt), "--max-tokens", "4", "--study", "mine"]
    command += ["--phase", "1", "--budget", "20s"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=project.path
    ) as first:
        assert first.stderr is not None
        done = _until(first, "point 2")
        time.sleep(0.3)  # the next point is on its way
        os.kill(first.pid, signal.SIGKILL)
    assert sum(": point" in line for line in done) == 2
    result = project.run(*command, "--json", "out.json", timeout=150)
    assert result.ret == 0
    assert "going on after 2 points" in result.stderr.str()
    points = json.loads((project.path / "out.json").read_text())["points"]
    assert [f"point {one['number']} " in done[-1] for one in points[:2]] == [False, True]
    settings = [json.dumps(one["settings"], sort_keys=True) for one in points]
    assert len(settings) == len({*settings}) >= 3


def _until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines))
