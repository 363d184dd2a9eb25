"""A git repository with perf tests of a small application, and ways to run sessions in it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from stored_sessions import store_daily

from pytest_llmperf.repository.checkout import FOLDER
from pytest_llmperf.repository.git import Repository

ROOT = Path(__file__).resolve().parents[2]
NO_SETTINGS = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@example.org",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.org",
}

#: Seconds that the application takes for each token.
TOKEN_S = 0.004
_TOY = """
import time

TOKEN_S = {seconds}

def answer(prompt, max_tokens=4):
    for number in range(max_tokens or 4):
        time.sleep(TOKEN_S)
        yield f"word{{number}} "
"""

#: One thread: a busy process on another core takes nothing from the application.
CONFIG = """
llm:
  engine: app
  target: toy:answer
  n_threads: 1
  n_threads_batch: 1
perf:
  processes: 1
  iterations: 3
"""

#: One gated metric: a duration that is steady because the application only sleeps.
TEST = """
import pytest

@pytest.mark.end_to_end(tolerance="5%")
def test_a(llm_engine):
    llm_engine.generate("hello", max_tokens=6)
"""

#: Other processes on the machine void no sample here; other tests cover that.
CONFTEST = """
import pytest_llmperf.session.machine_watch as machine_watch

machine_watch.judge = lambda *_: []
"""

INI = "[pytest]\naddopts = -p no:cacheprovider\n"

FILES = {
    "toy.py": _TOY.format(seconds=TOKEN_S),
    "config.yaml": CONFIG,
    "test_it.py": TEST,
    "conftest.py": CONFTEST,
    "pytest.ini": INI,
    ".gitignore": "__pycache__/\n*.gguf\n",
}

#: Pairs of earlier sessions do not count.
ALONE = "--llmperf-set=perf.accumulate=false"
#: A single pair, for tests of what is reported rather than of how fast it was.
ONE_PAIR = ("--llmperf-set=perf.max_pairs=1", ALONE)
#: A slowdown factor that a single pair shows, whatever else the machine does.
SLOW = 3.0


ALIKE = (1.0, 1.01, 0.99, 1.0)
#: A slowdown factor that stored sessions alone call regressed, however noisy the machine is.
FAR_SLOWER = 10.0
#: Factors for sessions that were recorded while the machine was faster.
FASTER = tuple(0.75 * factor for factor in ALIKE)


def toy_source(factor: float = 1.0, extra: str = "") -> str:
    """Return the application's source, slowed down by a factor."""
    return _TOY.format(seconds=TOKEN_S * factor) + extra


#: A code change that costs nothing, so that no session has measured this code.
HARMLESS_CHANGE = {"toy.py": toy_source(extra="# a remark\n")}


def git(cwd: Path, *arguments: str) -> str:
    """Run git for the test itself, and return what it prints."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | NO_SETTINGS
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=environ, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="surrogateescape").strip()


def isolate_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's settings, and the variables of a hook that runs tests, from git."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name, value in NO_SETTINGS.items():
        monkeypatch.setenv(name, value)


def repository_at(path: Path) -> Repository:
    """Return the repository around a folder, which must be in one."""
    repository = Repository.around(path)
    assert repository is not None
    return repository


@dataclass(frozen=True)
class Session:
    """How a session ended: status, what it printed, and its JSON report where it wrote one."""

    ret: int
    out: str
    err: str
    report: dict[str, Any] | None

    @property
    def all_output(self) -> str:
        """All output, with white space as single spaces because lines wrap anywhere."""
        return " ".join(f"{self.out} {self.err}".split())

    @property
    def tests(self) -> dict[str, dict[str, Any]]:
        """The report of each test, by the name after ``::``."""
        assert self.report is not None, f"{self.out}\n{self.err}"
        return {test["nodeid"].rpartition("::")[2]: test for test in self.report["tests"]}

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict of each test, by the name after ``::``."""
        return {name: test["verdict"] for name, test in self.tests.items()}

    @property
    def facts(self) -> dict[str, Any]:
        """The report's section about the whole session."""
        assert self.report is not None, f"{self.out}\n{self.err}"
        session: dict[str, Any] = self.report["session"]
        return session

    @property
    def notes(self) -> str:
        """The report's notes, one per line."""
        return "\n".join(self.facts["notes"])

    def change(self, name: str = "test_a") -> float:
        """Return the change of a test's only gated metric; positive is slower."""
        (change,) = [m["change"] for m in self.tests[name]["metrics"] if m["gated"]]
        return float(change)

    def explanation(self, name: str = "test_a") -> str:
        """Return the explanation of a test's only gated metric."""
        (explanation,) = [m["explanation"] for m in self.tests[name]["metrics"] if m["gated"]]
        return str(explanation)


def findings(session: Session, name: str = "test_a") -> str:
    """Return the report's findings about a test, one per line."""
    return "\n".join(session.tests[name]["findings"])


class CommitProject:
    """A repository with its own cache, and sessions that run as subprocesses.

    Args:
        path: where to make the repository.
        home: a folder outside of it, for the cache and what sessions write.
        folder: the project's own folder below the repository's top.
    """

    def __init__(self, path: Path, home: Path, folder: str = "") -> None:
        self.top = path
        self.path = path / folder
        self.home = home
        self.cache = home / "cache"
        self.python = Path(sys.executable)
        home.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)
        if not (path / ".git").exists():
            self.git("init", "--quiet", "-b", "main")

    def git(self, *arguments: str) -> str:
        """Run git in the repository."""
        return git(self.top, *arguments)

    def write(self, files: Mapping[str, str]) -> None:
        """Write files of the project."""
        for name, text in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

    def commit(self, message: str, files: Mapping[str, str] | None = None) -> str:
        """Write files, commit everything, and return the commit."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    @property
    def environ(self) -> dict[str, str]:
        """A session's environment, without settings of this session, its user or other sessions."""
        foreign = ("LLMPERF_", "PYTEST_", "COV_", "COVERAGE_", "GIT_", "GITHUB_", "CI")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return kept | {
            **NO_SETTINGS,
            "GIT_CEILING_DIRECTORIES": str(self.top.parent),
            "LLMPERF_CACHE_DIR": str(self.cache),
            "LLMPERF_DEVICE_LOCK": str(self.home / "device.lock"),
            # Other plugins double a session's start-up time.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(self.temporary),
            "COLUMNS": "120",
        }

    @property
    def temporary(self) -> Path:
        """The folder for the sessions' temporary files."""
        folder = self.home / "temporary"
        folder.mkdir(exist_ok=True)
        return folder

    def command(self, *arguments: str, installed: bool = False) -> list[str]:
        """Return a session's command line; with ``installed`` pytest finds the plugin itself."""
        plugin = () if installed else ("-p", "pytest_llmperf.plugin")
        return [str(self.python), "-m", "pytest", *plugin, "-m", "perf", *arguments]

    def perf(
        self,
        *arguments: str,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        installed: bool = False,
    ) -> Session:
        """Run ``pytest -m perf`` to its end, with a JSON report."""
        json_file = self.home / "report.json"
        json_file.unlink(missing_ok=True)
        changed = {**self.environ, **(environ or {})}
        if installed:
            del changed["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
        done = subprocess.run(
            self.command(f"--llmperf-json={json_file}", *arguments, installed=installed),
            cwd=cwd or self.path,
            env=changed,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=180,
            check=False,
        )
        report = json.loads(json_file.read_text()) if json_file.exists() else None
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return Session(done.returncode, out, err, report)

    def against(self, rev: str, *arguments: str, **options: Any) -> Session:
        """Run ``pytest -m perf --llmperf-against REV``."""
        return self.perf(f"--llmperf-against={rev}", *arguments, **options)

    def checkouts(self) -> list[str]:
        """Return the names of the checkouts left in the cache."""
        folders = (self.cache / FOLDER).glob("*/*")
        return sorted(path.name for path in folders if path.name != ".sweep.lock")

    def baselines(self) -> list[Path]:
        """Return the recorded files, in order."""
        return sorted(self.path.glob("perf_baselines/*/*.json"))

    def store_sessions(self, factors: Sequence[float], **provenance: Any) -> list[str]:
        """Replace the recorded sessions by one a day: the first, its durations times a factor.

        ``provenance`` overrides the stored provenance. Returns the file names.
        """
        first, *others = self.baselines()
        for path in others:
            path.unlink()
        return store_daily(
            first,
            factors,
            "end_to_end",
            change=lambda record: record["provenance"].update(provenance),
        )


def make_venv(folder: Path, *paths: str) -> Path:
    """Make an environment with these folders on its path, and return its site-packages.

    The plugin, its dependencies and an installer are importable too, but not installed there.
    """
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    also = (str(ROOT), sysconfig.get_path("purelib"))
    (site / "paths.pth").write_text("\n".join([*paths, *also, ""]))
    return site


def snapshot(folder: Path, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Return mode, modification time and content of everything in a folder, by path."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = path.readlink()
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        seen[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns * times, content)
    return seen


def lines_with(text: str, parts: Sequence[str]) -> list[str]:
    """Return the lines that contain all of the parts."""
    return [line for line in text.splitlines() if all(part in line for part in parts)]
