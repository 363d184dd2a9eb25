"""Real repositories whose commits state how fast they are, and an oracle that reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from commit_projects import git, repository_at

from pytest_llmperf.bisect.drive import BisectEvent, Bisection, Question
from pytest_llmperf.bisect.evidence import BisectEvidence
from pytest_llmperf.bisect.outcome import Rates
from pytest_llmperf.bisect.session import BisectFinding, BisectSession
from pytest_llmperf.repository.revisions import resolve

RATES = Rates(false_alarm=0.01, false_pass=0.05, tolerance=0.05)
#: The state that each letter of a history stands for.
LETTERS = {
    "f": {"decode": "pass"},
    "s": {"decode": "regressed"},
    "?": {"decode": "inconclusive"},
    "!": {"problem": "it does not build"},
    "b": {"decode": "regressed", "prefill": "regressed"},
    "p": {"decode": "pass", "prefill": "regressed"},
    "F": {"decode": "pass", "prefill": "pass"},
    "+": {"decode": "improved", "prefill": "pass"},
    "u": {"decode": "pass", "prefill": "inconclusive"},
    "m": {"prefill": "pass"},
}


def add(root: Path, letter: str, message: str = "") -> str:
    """Commit a state, and a file with unique content; return the hash."""
    (root / "state").write_text(json.dumps(LETTERS[letter]))
    (root / "number").write_text(os.urandom(8).hex())
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "-m", message or f"state {letter}")
    return git(root, "rev-parse", "HEAD")


def history(root: Path, letters: str, same: Collection[int] = ()) -> list[str]:
    """Make a repository with a linear history; return the hashes, oldest first.

    ``same``: the commits, counted from 0, that change nothing but a recorded session.
    """
    root.mkdir()
    git(root, "init", "--quiet", "-b", "main")
    stream = []
    for number, letter in enumerate(letters):
        state, message = json.dumps(LETTERS[letter]), f"state {letter}"
        identity = f"t <t@example.org> {1_700_000_000 + 60 * number} +0000"
        stream += [
            "commit refs/heads/main",
            *(f"author {identity}", f"committer {identity}"),
            *(f"data {len(message)}", message),
            "M 100644 inline state",
            *(f"data {len(state)}", state),
            f"M 100644 inline {'perf_baselines/m/x.json' if number in same else 'number'}",
            *(f"data {len(str(number))}", str(number)),
        ]
    subprocess.run(
        ["git", "fast-import", "--quiet"],
        input="\n".join([*stream, ""]).encode(),
        cwd=root,
        check=True,
    )
    git(root, "reset", "--quiet", "--hard")
    return git(root, "rev-list", "--reverse", "HEAD").split()


class Oracle:
    """An oracle that reads a commit's state with git, and remembers the questions.

    Compared with its own parent, a commit that is as slow is not regressed.
    """

    def __init__(self, root: Path, machine: str = "m1") -> None:
        self.root = root
        self.asked: list[str] = []
        self.questions: list[Question] = []
        self.machine = machine

    def __call__(self, question: Question) -> BisectSession:
        self.questions.append(question)
        self.asked.append(question.commit)
        state = self._state(question.commit)
        problem = state.pop("problem", "")
        base = self._state(question.against)
        findings = []
        for metric, verdict in state.items():
            same = question.fresh and verdict == base.get(metric)
            findings.append(
                BisectFinding(
                    "test_it.py::test_x",
                    metric,
                    "pass" if same and verdict == "regressed" else verdict,
                    text=f"{metric} says {verdict}",
                    effect=0.1 if verdict == "regressed" else 0.0,
                    low=-0.01,
                    high=0.11,
                    bound=0.01,
                )
            )
        return BisectSession(
            question.commit,
            question.against,
            tuple(findings),
            problem,
            seconds=2.0,
            machine=self.machine,
            fresh=question.fresh,
        )

    def _state(self, commit: str) -> dict[str, str]:
        state: Mapping[str, str] = json.loads(git(self.root, "show", f"{commit}:state"))
        return dict(state)


def bisection(
    root: Path,
    evidence: BisectEvidence,
    oracle: Oracle,
    good: str,
    bad: str = "HEAD",
    events: list[BisectEvent] | None = None,
    host: str | None = None,
    **options: bool,
) -> Bisection:
    repository = repository_at(root)
    return Bisection(
        repository,
        resolve(repository, good),
        resolve(repository, bad),
        oracle,
        evidence,
        RATES,
        600.0,
        (events if events is not None else []).append,
        baselines="perf_baselines",
        host=oracle.machine if host is None else host,
        **options,
    )


def child(code: str, *arguments: Sequence[str] | str, cwd: Path) -> subprocess.Popen[bytes]:
    """Start Python with this folder, the tests' support and the package importable."""
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, [here, here.parent / "support", here.parents[1]]))
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
