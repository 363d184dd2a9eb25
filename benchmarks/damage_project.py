"""A small project whose sessions write every kind of stored file, and commands that read them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_llmperf.baselines.calibrations import read_calibrations
from pytest_llmperf.baselines.json_text import dumps
from pytest_llmperf.bisect.drive import Bisection, Question
from pytest_llmperf.bisect.evidence import BisectEvidence
from pytest_llmperf.bisect.outcome import Rates
from pytest_llmperf.bisect.session import BisectFinding, BisectSession
from pytest_llmperf.cli import main
from pytest_llmperf.cli.output import say, width
from pytest_llmperf.gate.check import Check, Evidence, Pairs
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.measure.kept_pairs import KeptPairs
from pytest_llmperf.measure.samples import TestSamples
from pytest_llmperf.metrics import METRICS, get_metric
from pytest_llmperf.report.bisect import BisectText, bisect_json
from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.revisions import resolve

Kind = Literal["record", "decision", "report", "calibration", "kept pairs", "bisect evidence"]
KINDS: tuple[Kind, ...] = (
    "record",
    "decision",
    "report",
    "calibration",
    "kept pairs",
    "bisect evidence",
)

_FILES = {
    "toy.py": (
        "import time\n\n\ndef answer(prompt, max_tokens=4):\n"
        "    for number in range(max_tokens or 4):\n        time.sleep(0.001)\n        yield 'w'\n"
    ),
    "test_toy.py": (
        "import pytest\n\n\n@pytest.mark.perf\ndef test_answer(llm_engine):\n"
        "    llm_engine.generate('hello', max_tokens=4)\n"
    ),
    # Other programs on the machine must not void samples here.
    "conftest.py": (
        "import pytest_llmperf.session.machine_watch as machine_watch\n\n"
        "machine_watch.judge = lambda *_: []\nmachine_watch.judge_host = lambda *_: []\n"
    ),
    "config.yaml": (
        "llm:\n  engine: app\n  target: toy:answer\n  n_threads: 1\n  n_threads_batch: 1\n"
        "perf:\n  processes: 1\n  max_pairs: 1\n  iterations: 3\n"
    ),
    ".gitignore": "__pycache__/\n.pytest_cache/\n",
}
_GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}
_REPORT = "report.json"


@dataclass(frozen=True)
class CommandOutput:
    """Output of a command that read a damaged file.

    Attributes:
        text: all of its output, with the traceback if it raised an exception.
        errors: its standard error; of a session or a search, its standard output too.
        failed: whether its exit status says that a file can't be used.
    """

    text: str
    errors: str
    failed: bool


class DamageProject:
    """A repository with three recorded sessions and one file of every other kind.

    Args:
        folder: where to make it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self._home = folder
        self.folder.mkdir(parents=True)
        for name, text in _FILES.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        shutil.copy(self.folder / "config.yaml", self.folder / "other.yaml")
        self._git("init", "-q", "-b", "main")
        self.environ = {
            **os.environ,
            **_GIT,
            "LLMPERF_CACHE_DIR": str(folder / "cache"),
            "LLMPERF_DEVICE_LOCK": str(folder / "device.lock"),
            "COLUMNS": "400",
        }

    def fill(self) -> None:
        """Run real sessions that write a file of every kind."""
        for number in range(3):
            self._git("add", "-A")
            self._git("commit", "-q", "--allow-empty", "-m", f"Change {number}")
            self.session("--llmperf-record", f"--llmperf-json={_REPORT}")
        self._git("add", "-A")
        self._git("commit", "-q", "-m", "Sessions")
        shutil.copytree(self.folder / "perf_baselines", self._home / "good")
        os.chdir(self.folder)
        for verb in ("accept", "anchor"):
            self.command("baseline", verb, "--reason", "it is so")
        self.session("--llmperf-against-config=other.yaml")
        self._run("-m", "pytest_llmperf.cli", "calibrate", "--sessions", "1")
        self._evidence_of_a_search()
        self._with_counters()

    def _with_counters(self) -> None:
        """Add a GPU counter, with zeros among its samples, to the newest record."""
        path = self.records()[-1]
        data = json.loads(path.read_text(encoding="utf-8"))
        (test,) = data["tests"].values()
        test["metrics"]["gpu_utilization"] = {"unit": "%", "samples": [[0.0, 0.0, 0.5]]}
        path.write_text(json.dumps(data, indent=2), encoding="utf-8")

    def records(self) -> list[Path]:
        """Return the recorded sessions, oldest first."""
        return sorted(self.folder.glob("perf_baselines/*/*.json"))

    def file(self, kind: Kind) -> Path:
        """Return the file of a kind that is to be damaged: the newest of several."""
        patterns = {
            "decision": (self.folder, "perf_baselines/*/decisions/*.json"),
            "calibration": (self.folder, "perf_baselines/*/calibrations/*.json"),
            "kept pairs": (self._home / "cache" / "evidence", "*.jsonl"),
            "bisect evidence": (self._home / "cache" / "bisect", "*/*.session.json"),
        }
        if kind == "record":
            return self.records()[-1]
        if kind == "report":
            return self.folder / _REPORT
        folder, pattern = patterns[kind]
        return sorted(folder.glob(pattern))[-1]

    def readers(self, kind: Kind) -> dict[str, Callable[[], CommandOutput]]:
        """Return the functions that read a kind of file, by command name; sessions come last."""
        good = str(self._home / "good")
        (machine,) = (path for path in (self._home / "good").iterdir())
        first = str(sorted(machine.glob("*.json"))[0])
        newest, report = str(self.records()[-1]), str(self.folder / _REPORT)
        store = {
            "history": ("history",),
            "history --json": ("history", "--json"),
            "history --csv": ("history", "--csv", "--metric", "all"),
            "baseline show": ("baseline", "show"),
            "baseline show --json": ("baseline", "show", "--json"),
            "baseline prune": ("baseline", "prune"),
            "baseline accept": ("baseline", "accept", "--reason", "why"),
            "baseline anchor": ("baseline", "anchor", "--reason", "why"),
            "compare FOLDER FOLDER": ("compare", good, "perf_baselines"),
            "compare, the other way": ("compare", "perf_baselines", first),
        }
        files = {
            "record": {
                **store,
                "compare FILE FILE": ("compare", first, newest, "--format", "markdown"),
                "compare FILE REPORT": ("compare", newest, report, "--format", "json"),
            },
            "decision": store,
            "report": {
                "compare FILE REPORT": ("compare", first, report),
                "compare REPORT FILE": ("compare", report, first, "--format", "markdown"),
                "compare REPORT FOLDER": ("compare", report, good, "--format", "json"),
            },
        }
        readers: dict[str, Callable[[], CommandOutput]] = {
            name: lambda words=words: self.command(*words)  # type: ignore[misc]
            for name, words in files.get(kind, {}).items()
        }
        if kind == "bisect evidence":
            readers["bisect"] = self.search
        elif kind == "kept pairs":
            readers["reading and judging"] = lambda: _caught(self._judge_pairs)
            readers["session"] = lambda: self.session("--llmperf-against-config=other.yaml")
        elif kind == "calibration":
            readers["reading"] = lambda: _caught(self._read_calibrations)
            readers["session"] = self.session
        elif kind != "report":
            readers["session"] = self.session
        return readers

    def command(self, *words: str) -> CommandOutput:
        """Run ``llmperf`` inside this process."""
        before = set(self.folder.glob("perf_baselines/*/decisions/*"))
        output = _caught(lambda: main(words))
        for path in set(self.folder.glob("perf_baselines/*/decisions/*")) - before:
            if self._filled:
                path.unlink()
        return output

    @property
    def _filled(self) -> bool:
        return (self._home / "cache" / "bisect").is_dir()

    def session(self, *words: str) -> CommandOutput:
        """Run ``pytest -m perf`` in a process of its own."""
        return self._run("-m", "pytest", "-m", "perf", "-p", "no:cacheprovider", *words)

    def _run(self, *words: str) -> CommandOutput:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            check=False,
        )
        # 3: pytest's internal error; 4: something that it was given can't be used.
        text = done.stdout + done.stderr
        text = text if done.returncode != 3 else f"INTERNALERROR\n{text}"
        # The table at the end repeats the notes that were printed while measuring.
        once = done.stdout.partition(" LLM performance ")[0] + done.stderr
        return CommandOutput(text, once, done.returncode > 2)

    def _read_calibrations(self) -> int:
        for folder in self.folder.glob("perf_baselines/*"):
            calibrations, problems = read_calibrations(folder)
            print([dumps(calibration.summary()) for calibration in calibrations])
            print("\n".join(problems), file=sys.stderr)
        return 0

    def _judge_pairs(self) -> int:
        pairs = KeptPairs(self._home / "cache" / "evidence")
        samples = TestSamples(pairs.read(self.file("kept pairs")))
        print("\n".join(pairs.problems), file=sys.stderr)
        for metric in [*METRICS.values(), get_metric("inter_token_p95")]:
            values = samples.values(metric.name)
            if metric.kind == "share" or not metric.compared or not values:
                continue
            differences = samples.differences(metric)
            both = Pairs(*samples.paired(metric.name), "base", differences=differences)
            evidence = Evidence("t", Check(metric, None, 0.05), values, 1, pairs=both, ended=True)
            print(judge(evidence).explanation)
        return 0

    def _git(self, *words: str) -> None:
        environ = {**os.environ, **_GIT}
        subprocess.run(["git", *words], cwd=self.folder, env=environ, check=True)

    def _evidence_of_a_search(self) -> None:
        output = self.search()
        if "first bad commit: " not in output.text:
            raise SystemExit(f"the search found nothing:\n{output.text}")

    def search(self) -> CommandOutput:
        """Bisect the repository's commits, using kept evidence instead of measuring again."""
        output = _caught(self._search)
        # Complaints stand among its other output, whose lines are wrapped.
        return CommandOutput(output.text, " ".join(output.text.split()), output.failed)

    def _search(self) -> int:
        repository = Repository.around(self.folder)
        assert repository is not None
        commits = repository.run("rev-list", "--reverse", "HEAD").split()
        good, bad = resolve(repository, commits[0]), resolve(repository, commits[-1])

        def oracle(question: Question) -> BisectSession:
            slow = commits.index(question.commit) >= 2 > commits.index(question.against)
            verdict = "regressed" if slow else "pass"
            numbers = (0.1, 0.05, 0.15, 0.14) if slow else (0.0, -0.01, 0.01, 0.01)
            finding = BisectFinding("test_toy.py::test_answer", "end_to_end", verdict, "", *numbers)
            return BisectSession(
                question.commit,
                question.against,
                (finding,),
                seconds=2.0,
                machine="m1",
                fresh=question.fresh,
            )

        with BisectEvidence(self._home / "cache", ["a search"]) as evidence:
            text = BisectText(good, bad, evidence.folder)
            rates = Rates(0.01, 0.05, 0.05)
            search = Bisection(
                repository,
                good,
                bad,
                oracle,
                evidence,
                rates,
                600.0,
                lambda event: say(*text.event_lines(event, width())),
                host="h1",
            )
            outcome = search.run()
            say(*text.outcome_lines(outcome, width()))
            print(json.dumps(bisect_json(search, outcome), allow_nan=False))
        return 0


def _caught(run: Callable[[], int]) -> CommandOutput:
    """Run a function; return what it printed, with the traceback if it raised an exception."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = run()
        except SystemExit as stop:
            status = int(stop.code or 0)
        except Exception:
            err.write(f"\n{traceback.format_exc()}")
            status = 1
    return CommandOutput(out.getvalue() + err.getvalue(), err.getvalue(), status == 1)
