"""docs/walkthrough.md, command by command: real git, the real engine, the written CI scripts.

Environment variables replace the page's model with a tiny one, and its settings with settings for
a busy machine.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from ci_files import ACTION, ROOT, bash, environment, read_yaml, step
from commit_projects import git
from tiny_models import tiny_llama

PAGE = ROOT / "docs" / "walkthrough.md"
#: The commit to blame is named by this command at the latest.
MAX_COMMANDS = 10
_MACHINE_CHECKS = (
    "BUSY_CORES",
    "CPU_QUOTA",
    "CPU_THROTTLED",
    "MAJOR_FAULTS",
    "MEMORY_PRESSURE",
    "STOLEN_CORES",
    "SWAPPING",
)
#: Other processes on the machine invalidate no sample; single replays weigh little.
BUSY_MACHINE = {
    "LLMPERF_PERF__TURNS": "processes",
    "LLMPERF_PERF__ITERATIONS": "15",
    "LLMPERF_PERF__TOLERANCE": "50%",
    **{f"LLMPERF_PERF__FITNESS__{name}": "warn" for name in _MACHINE_CHECKS},
}


#: Words that commands print, by number of the command; the page shows them, too.
PRINTED = {
    6: ("no baseline first token", "target met"),
    8: (
        "regressed: first token",
        "llm.n_batch: base 128, candidate 1",
        "llmperf bisect merge-base:main HEAD test_chat.py::test_question",
    ),
    9: ("first bad commit: ", "Use less memory"),
    11: ("1 test, 1 check: 1 pass",),
    12: ("wrote .github/workflows/llmperf.yml",),
}


@dataclass(frozen=True)
class Ran:
    """A command of the page that has run.

    Attributes:
        status: its exit status.
        out: what it printed.
    """

    status: int
    out: str

    @property
    def text(self) -> str:
        """The output with single spaces: lines are wrapped anywhere."""
        return " ".join(self.out.split())


def shell_blocks() -> list[str]:
    """Return the page's blocks of commands."""
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"))


def commands() -> dict[int, str]:
    """Return the page's commands by number."""
    lines = [line for block in shell_blocks() for line in block.splitlines()]
    matches = [re.fullmatch(r"(.*\S) +# (\d+)", line) for line in lines]
    assert all(matches), "a command without a number"
    return {int(match[2]): match[1] for match in matches if match is not None}


def script() -> str:
    """Return a script that prints each command's number, runs it and prints its exit status."""
    numbered = commands()
    # This checkout is cloned, with the example as it is in the work tree, and already set up.
    numbered[1] = (
        f"git clone --quiet '{ROOT}' pytest-llmperf"
        f" && cp '{ROOT}'/examples/*.py pytest-llmperf/examples/"
    )
    numbered[2] = f"ln -s '{sys.prefix}' pytest-llmperf/.venv"
    return "set +e\n" + "\n".join(
        f"echo '::{number}'\n{command}\necho \"::status $?\""
        for number, command in numbered.items()
    )


def walk(top: Path, environ: dict[str, str]) -> dict[int, Ran]:
    """Run all commands of the page, one after the other, from an empty folder."""
    done = bash(script(), top, environ, timeout=400)
    parts = re.split(r"(?m)^::(\d+)\n", done.stdout)
    ran = {}
    for number, text in zip(parts[1::2], parts[2::2], strict=True):
        out, _, status = text.rpartition("::status ")
        ran[int(number)] = Ran(int(status), out)
    return ran


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Environment variables of a user with a tiny model, an empty cache and a busy machine."""
    home = tmp_path / "home"
    home.mkdir()
    return environment(
        LLMPERF_CACHE_DIR=home / "cache",
        LLMPERF_DEVICE_LOCK=home / "device.lock",
        LLMPERF_LLM__MODEL_PATH=tiny_llama(),
        PYTHONDONTWRITEBYTECODE="1",
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        PYTEST_ADDOPTS="-p pytest_llmperf.plugin",
        COLUMNS="100",
        **BUSY_MACHINE,
    )


def test_the_page_numbers_its_commands() -> None:
    numbered = commands()
    assert list(numbered) == list(range(1, len(numbered) + 1))
    assert numbered[1].startswith("git clone https://")
    assert numbered[2] == "make -C pytest-llmperf setup"
    (gate,) = [number for number, text in numbered.items() if number < 9 and "against" in text]
    (search,) = [number for number, text in numbered.items() if text.startswith("llmperf bisect")]
    assert gate < search <= MAX_COMMANDS


def test_the_walk_and_the_job_that_it_writes(tmp_path: Path, environ: dict[str, str]) -> None:
    top = tmp_path / "walk"
    top.mkdir()
    ran = walk(top, environ)
    print(*(f"{number}: {result.status}\n{result.out}" for number, result in ran.items()))
    assert ran.keys() == commands().keys()

    # One command is red: the gate.
    assert {number for number, result in ran.items() if result.status != 0} == {8}
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for number, phrases in PRINTED.items():
        for phrase in phrases:
            assert phrase in ran[number].text, number
            assert phrase in page, number

    # The search names the commit.
    chat = top / "chat"
    guilty = git(chat, "log", "--format=%H", "--grep=^Use less memory", "main..HEAD~1")
    assert f"first bad commit: {guilty} Use less memory" in ran[9].text

    assert_the_written_job_is_red(chat, tmp_path / "report", environ)


def assert_the_written_job_is_red(chat: Path, report: Path, environ: dict[str, str]) -> None:
    """Run the written steps on the slow commit; they continue with the pairs of the walk."""
    report.mkdir()
    git(chat, "update-ref", "refs/remotes/origin/main", "main")
    git(chat, "checkout", "--quiet", "HEAD~1")
    output, summary = report.parent / "output", report.parent / "summary"
    job = environ | {
        "RECORD": "false",
        "BASE": "main",
        "NAME": "cpu",
        "PYTEST_ARGS": "",
        "WAIT_FIT": "1s",
        "REPORT": str(report),
        "LLMPERF_VENV": sys.prefix,
        "GITHUB_BASE_REF": "main",
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_WORKSPACE": str(chat),
    }
    action = read_yaml(chat / ACTION)
    measured = bash(step(action, "Measure")["run"], chat, job)
    assert measured.returncode == 1, measured.stdout
    assert "regressed: first token" in " ".join(measured.stdout.split())
    assert output.read_text() == "exit-code=1\nrecorded=false\n"
    shown = bash(step(action, "Report")["run"], chat, job)
    assert shown.returncode == 0, shown.stdout
    assert "::error file=test_chat.py,line=8,title=llmperf%3A regressed::" in shown.stdout
    assert summary.read_text().count("### llmperf: regressed") == 1
    files = {"session.json", "report.html", "junit.xml", "comment.md"}
    assert {path.name for path in report.iterdir()} == files
