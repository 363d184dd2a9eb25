"""However one value in a stored file is damaged, every command uses the file or names the remedy.

``python benchmarks/damaged_files.py`` does the same with every command and every damage.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from plugin_projects import Project

from benchmarks.file_damage import REMOVED, VALUES, Damage, damage, damaged, find_fault, names_file
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.files import read_record
from pytest_llmperf.cli import main
from pytest_llmperf.compare.report_file import read_report
from pytest_llmperf.measure.kept_pairs import KeptPairs

#: Keys whose damage makes it another record, which hides the other damages from a command.
IDENTITY = ("machine", "model", "schema", "recorded", "workload", "invalid", "processes")
Run = Callable[..., None]


@pytest.fixture
def survives(capsys: pytest.CaptureFixture[str], project: Project) -> Run:
    """Return a function that runs a command, checks its output and undoes its decisions."""

    def run(file: Path, *words: str) -> None:
        before = set(project.path.rglob("decisions/*.json"))
        capsys.readouterr()
        main(words)
        out, err = capsys.readouterr()
        for decision in set(project.path.rglob("decisions/*.json")) - before:
            decision.unlink()
        refused = names_file(err, file.name)
        assert find_fault(out + err, err, file.name, refused=refused) == "", words

    return run


def split(file: Path, read: Callable[[Path], object], step: int = 1) -> list[Damage]:
    """Damage a file in every way (or one in ``step``), and return the damages that can be read.

    For every other damage the reader must name the file once, with a cause and a remedy.
    """
    text, survived = file.read_text(), []
    for case in list(damaged(text))[::step]:
        file.write_text(case.text)
        try:
            read(file)
        except BaselineError as error:
            problem = find_fault("", str(error), file.name, refused=True)
            assert problem == "", (case.place, case.value)
        else:
            survived.append(case)
    file.write_text(text)
    return survived


def merged(text: str, survived: Sequence[Damage]) -> Iterator[str]:
    """Yield contents with many damages each: all of one kind that do not hide each other."""
    for value in (*VALUES, REMOVED):
        paths = [
            case.path
            for case in survived
            if case.value == value and not any(key in IDENTITY for key in case.path)
        ]
        inner = [p for p in paths if not any(p != q and q[: len(p)] == p for q in paths)]
        if inner:
            yield damage(text, inner, value)


def add_counters(record: Path) -> None:
    """Add a GPU metric to a record, with a zero among its samples."""
    data = json.loads(record.read_text())
    for test in data["tests"].values():
        test["metrics"]["gpu_utilization"] = {"unit": "%", "samples": [[0.0, 0.5]]}
    record.write_text(json.dumps(data, indent=1))


@pytest.fixture
def recorded(one_test: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A repository with a recorded session, a copy of it elsewhere, and a report."""
    one_test.perf("--llmperf-record")
    shutil.copytree(one_test.path / "perf_baselines", one_test.path / "good")
    for words in (["init", "-q"], ["add", "perf_baselines"], ["commit", "-q", "-m", "x"]):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *who, *words], cwd=one_test.path, check=True)
    monkeypatch.chdir(one_test.path)
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(one_test.path / "cache"))
    # Files that a session writes here must not count as changed code.
    (one_test.path / ".git" / "info" / "exclude").write_text("*\n")
    # Longer than any path, so that no line breaks inside the text that is looked for.
    monkeypatch.setenv("COLUMNS", "400")
    return one_test


def test_records(recorded: Project, survives: Run) -> None:
    (file,) = recorded.baselines()
    add_counters(file)
    text, survived = file.read_text(), split(file, read_record)
    (good,) = recorded.path.glob("good/*/*.json")
    commands = (
        ("history", "--metric", "all"),
        ("history", "--csv"),
        ("baseline", "show"),
        ("baseline", "show", "--json"),
        ("baseline", "accept", "--reason", "why"),
        ("baseline", "prune"),
        ("compare", "good", "perf_baselines"),
        ("compare", str(file), str(good), "--format", "json"),
        ("compare", "out.json", str(file), "--format", "markdown"),
    )
    whole = list(merged(text, survived))
    assert len(whole) > 10
    for damaged_text in whole:
        file.write_text(damaged_text)
        for words in commands:
            survives(file, *words)
    for case in [case for case in survived if any(key in IDENTITY for key in case.path)][::9]:
        file.write_text(case.text)
        for words in commands[2:]:
            survives(file, *words)
    # Unreadable files are left out of the history, and each is named once.
    for number, case in enumerate(damaged(text)):
        if number % 60 == 0:
            file.with_name(f"{number}.json").write_text(case.text)
    survives(file, "history", "--json")


def test_sessions_beside_damaged_records(recorded: Project) -> None:
    (file,) = recorded.baselines()
    survived = split(file, read_record, step=2)
    for damaged_text in list(merged(file.read_text(), survived))[::6]:
        file.write_text(damaged_text)
        result = recorded.perf()
        assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        assert find_fault(result.stdout.str(), "", file.name, refused=False) == ""


def test_reports(recorded: Project, survives: Run) -> None:
    file = recorded.path / "out.json"
    text, survived = file.read_text(), split(file, read_report, step=3)
    for damaged_text in [*merged(text, survived), *(case.text for case in survived[::40])]:
        file.write_text(damaged_text)
        survives(file, "compare", "good", "out.json")
        survives(file, "compare", "out.json", "good", "--format", "json")


@pytest.mark.usefixtures("quiet_machine")
def test_kept_pairs(recorded: Project) -> None:
    shutil.copy("config.yaml", "other.yaml")
    against = ("--llmperf-against-config=other.yaml", "--llmperf-set=perf.max_pairs=1")
    recorded.perf(*against)
    (file,) = recorded.path.glob("cache/evidence/*.jsonl")
    text = file.read_text().strip()
    for case in damaged(text):
        file.write_text(f"{text}\n{case.text}\n")
        pairs = KeptPairs(file.parent)
        samples = pairs.read(file)
        assert [sample.pair for sample in samples] in ([0, 0], [0, 0, 1, 1])
        # Pairs that are too old are dropped without a word.
        if len(samples) == 2 and pairs.problems:
            (problem,) = pairs.problems
            assert find_fault(problem, problem, file.name, refused=True) == "", case.place
    file.write_text(damage(text, [("pair", 0, "arm")], "zero"))
    result = recorded.perf(*against)
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    result.stdout.fnmatch_lines(["llmperf: note: *.jsonl: line 1 can't be used*"])
