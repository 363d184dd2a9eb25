"""docs/walkthrough.md, command by command: real git, the real engine, a real model."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from ci_files import ACTION, ROOT, bash, environment, git, read_yaml, step
from commit_projects import CONFTEST

from pytest_llmperf.config.embedded import cache_dir

PAGE = ROOT / "docs" / "walkthrough.md"
MODELS = cache_dir() / "models"
#: Red gate, and name of the commit: by this command at the latest.
FEW = 10


@dataclass(frozen=True)
class Ran:
    """How a command of the page ended."""

    status: int
    out: str

    @property
    def said(self) -> str:
        """Its output, with single spaces: lines are wrapped anywhere."""
        return " ".join(self.out.split())


def commands() -> dict[int, str]:
    """The numbered commands of the page."""
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"))
    lines = [line for block in blocks for line in block.splitlines()]
    found = [re.fullmatch(r"(.*\S) +# (\d+)", line) for line in lines]
    return {int(match[2]): match[1] for match in found if match is not None}


def script(top: Path) -> str:
    """One shell's script of all commands, with a line before each and its status after it."""
    listed = commands()
    # What the clone and its set-up would be made of is here already.
    listed[1] = re.sub(r"https://\S+", f"file://{ROOT} pytest-llmperf", listed[1])
    listed[2] = f"ln -s '{sys.prefix}' pytest-llmperf/.venv"
    return "set +e\n" + "\n".join(
        f"echo '::{number}'\n{command}\necho \"::status $?\"" for number, command in listed.items()
    )


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the walk begins."""
    return tmp_path_factory.mktemp("walk")


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The walker's: a cache without anything but models, and a machine that nobody else uses."""
    home = tmp_path_factory.mktemp("home")
    (home / "cache").mkdir()
    (home / "cache" / "models").symlink_to(MODELS)
    (home / "alone_here.py").write_text(CONFTEST)
    return environment(
        LLMPERF_CACHE_DIR=home / "cache",
        LLMPERF_DEVICE_LOCK=home / "device.lock",
        PYTHONPATH=home,
        PYTHONDONTWRITEBYTECODE="1",
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        PYTEST_ADDOPTS="-p pytest_llmperf.plugin -p alone_here",
        COLUMNS="100",
    )


@pytest.fixture(scope="module")
def walk(top: Path, environ: dict[str, str]) -> dict[int, Ran]:
    """The whole walk."""
    done = bash(script(top), top, environ)
    parts = re.split(r"(?m)^::(\d+)\n", done.stdout)
    found = {}
    for number, text in zip(parts[1::2], parts[2::2], strict=True):
        out, _, status = text.rpartition("::status ")
        found[int(number)] = Ran(int(status), out)
    return found


def test_the_page_numbers_its_commands() -> None:
    listed = commands()
    assert list(listed) == list(range(1, len(listed) + 1))
    assert listed[1].startswith("git clone ")
    assert listed[2] == "make -C pytest-llmperf setup"


def test_all_commands_but_the_gate_s_succeed(walk: dict[int, Ran]) -> None:
    failed = {number for number, ran in walk.items() if ran.status != 0}
    assert walk.keys() == commands().keys()
    assert failed == {8}, "\n".join(walk[number].out for number in failed - {8})
    assert "no baseline" in walk[6].said


def test_the_red_gate_explains_itself(walk: dict[int, Ran]) -> None:
    assert "regressed: first token" in walk[8].said
    assert "llm.n_batch: base 128, candidate 4" in walk[8].said, walk[8].said


def test_the_commit_is_named_within_ten_commands(walk: dict[int, Ran], top: Path) -> None:
    ((number, ran),) = [(n, one) for n, one in walk.items() if "first bad commit" in one.out]
    assert number <= FEW
    commit = git(top / "chat", "log", "--format=%H", "--grep=^Use less memory", "main..HEAD~1")
    assert f"first bad commit: {commit}" in ran.said
    assert "Use less memory" in ran.said


def test_the_reverted_branch_passes(walk: dict[int, Ran]) -> None:
    assert "regressed" not in walk[11].said
    assert "pass" in walk[11].said


def test_the_written_workflow_s_own_step_is_red_too(
    walk: dict[int, Ran], top: Path, environ: dict[str, str]
) -> None:
    """It continues with the pairs that the walk has measured."""
    chat, report = top / "chat", top / "report"
    report.mkdir()
    measure = step(read_yaml(chat / ACTION), "Measure")
    git(chat, "update-ref", "refs/remotes/origin/main", "main")
    git(chat, "checkout", "--quiet", "HEAD~1")
    job = {
        "RECORD": "false",
        "BASE": "main",
        "PYTEST_ARGS": "",
        "WAIT_FIT": "1s",
        "REPORT": str(report),
        "LLMPERF_VENV": sys.prefix,
        "GITHUB_OUTPUT": str(top / "output"),
        "GITHUB_BASE_REF": "main",
    }
    done = bash(measure["run"], chat, environ | job)
    assert done.returncode == 1, done.stdout
    assert "regressed: first token" in " ".join(done.stdout.split())
    assert (top / "output").read_text() == "exit-code=1\nrecorded=false\n"
    assert {path.name for path in report.iterdir()} == {"session.json", "report.html", "junit.xml"}
