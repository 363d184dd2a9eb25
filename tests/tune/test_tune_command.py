"""``llmperf tune`` as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time

import pytest
from quick_sessions import OUR_PLUGIN_ALONE
from tune_projects import COMMAND, configure


def test_the_projects_tests_are_the_workload(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With all installed plugins, as for a user.
    for name in OUR_PLUGIN_ALONE:
        monkeypatch.delenv(name)
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


#: Lines after which a search is killed: while it looks at today's configuration, measures a point
#: and proves the gain of the best point.
MOMENTS = ("searching ", "point 2 ", "in fresh pairs")


def test_a_killed_search_goes_on_with_what_it_had_measured(project: pytest.Pytester) -> None:
    configure(project.path, {"n_batch": [1, 16, 64, 512]}, n_batch=1)
    prompt = project.path / "prompt.txt"
    prompt.write_text("A question about caches. " * 6)
    command = [*COMMAND, "--prompt", str(prompt), "--max-tokens", "4", "--study", "mine"]
    command += ["--phase", "1", "--budget", "40s"]
    finished: set[str] = set()
    for moment in MOMENTS:
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=project.path
        ) as search:
            lines = _until(search, moment)
            time.sleep(0.3)  # the next step has begun
            os.kill(search.pid, signal.SIGKILL)
        assert points_before(lines) == len(finished)
        finished |= {line.split()[2] for line in lines if line.startswith("llmperf: point ")}
    assert len(finished) >= 2
    result = project.run(*command, "--json", "out.json", timeout=150)
    assert result.ret == 0
    assert points_before(result.errlines) == len(finished)
    written = json.loads((project.path / "out.json").read_text())
    assert {str(point["number"]) for point in written["points"]} >= finished
    settings = [json.dumps(point["settings"], sort_keys=True) for point in written["points"]]
    assert len(settings) == len({*settings})
    assert written["confirmed"] is not None


def _until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines))


def points_before(lines: list[str]) -> int:
    """Return the number of points that were in the study when the search started."""
    (line,) = (line for line in lines if "searching " in line)
    match = re.search(r"going on after (\d+) points", line)
    return int(match[1]) if match is not None else 0
