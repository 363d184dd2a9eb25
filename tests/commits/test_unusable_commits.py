"""Commits that can't be compared: reported with a reason and a log, never as a regression."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commit_projects import CONFIG, CONFTEST, FILES, ONE_PAIR, CommitProject


def test_a_conftest_that_raises_there_is_told_with_the_log(project: CommitProject) -> None:
    project.commit("broken", {"conftest.py": "raise RuntimeError('half a conftest')\n"})
    project.commit("mended", {"conftest.py": CONFTEST})
    session = project.against("HEAD~1", *ONE_PAIR)
    assert session.ret == pytest.ExitCode.TESTS_FAILED
    assert session.report is None
    assert "the tests could not be recorded at HEAD~1 (" in session.out
    assert "so speed was not compared" in session.out
    assert "| RuntimeError: half a conftest" in session.out.replace("E   ", "")
    assert "regressed" not in session.out
    assert project.checkouts() == []


def test_a_configuration_that_is_wrong_there_is_told_with_the_log(project: CommitProject) -> None:
    """The log of a session long ago is removed to make room."""
    old = project.cache / "logs" / "recording-old.log"
    old.parent.mkdir(parents=True)
    old.write_text("of long ago\n")
    os.utime(old, (1, 1))
    project.commit("broken", {"config.yaml": CONFIG + "  itrations: 3\n"})
    project.commit("mended", {"config.yaml": CONFIG})
    session = project.against("HEAD~1", *ONE_PAIR)
    assert session.ret == pytest.ExitCode.TESTS_FAILED
    assert "perf.itrations" in session.out
    assert not list(project.temporary.iterdir())
    (log,) = (project.cache / "logs").iterdir()
    assert f"End of its output ({log}):" in session.all_output
    assert "perf.itrations" in log.read_text()
    assert "regressed" not in session.out


def test_tests_that_did_not_run_there_are_not_called_added(project: CommitProject) -> None:
    """The base's own settings end its session at the first failure."""
    failing = FILES["test_it.py"].replace("llm_engine.gen", "assert not llm_engine.gen")
    later = FILES["test_it.py"].replace("test_a", "test_later")
    project.commit(
        "stops at a failure",
        {
            "pytest.ini": "[pytest]\naddopts = -p no:cacheprovider -x\n",
            "test_it.py": failing,
            "test_later.py": later,
        },
    )
    project.commit("mended", {"test_it.py": FILES["test_it.py"]})
    session = project.against("HEAD~1", *ONE_PAIR)
    assert "added" not in session.explanation("test_later")
    assert "its call failed there" in session.explanation("test_a")


def test_an_application_that_does_not_start_there_is_no_regression(project: CommitProject) -> None:
    project.commit("broken", {"toy.py": "import nowhere_to_be_found\n"})
    project.commit("mended", {"toy.py": FILES["toy.py"]})
    session = project.against("HEAD~1", *ONE_PAIR)
    assert session.verdicts == {"test_a": "error"}
    assert "base (HEAD~1 (" in session.explanation()
    assert "No module named 'nowhere_to_be_found'" in session.explanation()
    # Both have the same engine; only the version of the base's is unknown.
    assert not [line for line in session.facts["side_differences"] if "engine" in line]
    assert "what differs from HEAD~1 (" in session.all_output
    assert (
        "run it again: python -m pytest -m perf '--llmperf-against=HEAD~1' " in session.all_output
    )


ESCAPE = "\x1b[2J"


def test_a_subject_with_terminal_escapes_is_shown_escaped(project: CommitProject) -> None:
    """Anyone can write it in a pull request; unescaped, it could overwrite the output."""
    project.commit(f"{ESCAPE}all is well", {"conftest.py": "raise RuntimeError('\\x1b[2J')\n"})
    project.commit("mended", {"conftest.py": CONFTEST})
    session = project.against("HEAD~1", *ONE_PAIR)
    assert "all is well" in session.out
    assert ESCAPE not in session.out + session.err
    inner = CommitProject(project.top, project.home, "packages/new")
    inner.commit("a new package", FILES)
    refused = inner.against("HEAD~2")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert "all is well" in refused.err
    assert ESCAPE not in refused.out + refused.err


@pytest.mark.parametrize(
    ("rev", "says"),
    [
        ("feature/cahce", "did you mean feature/cache?"),
        ("HEAD~7", "HEAD has 0 commits before it"),
        ("", "an empty name is not a commit"),
    ],
)
def test_a_commit_that_does_not_exist_is_a_usage_error(
    project: CommitProject, rev: str, says: str
) -> None:
    """The error comes before anything of the project is imported."""
    project.git("branch", "feature/cache")
    project.write({"test_it.py": "raise SystemExit('imported')\n"})
    session = project.against(rev)
    assert "imported" not in session.all_output
    assert session.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: llmperf: --llmperf-against: " in session.err
    assert says in session.all_output


def test_outside_of_a_repository_is_a_usage_error(project: CommitProject) -> None:
    project.top.joinpath(".git").rename(project.home / "put away")
    session = project.against("HEAD")
    assert session.ret == pytest.ExitCode.USAGE_ERROR
    assert "is not in a git repository" in session.err


def test_before_the_first_commit_is_a_usage_error(project: CommitProject) -> None:
    project.git("update-ref", "-d", "HEAD")
    session = project.against("HEAD")
    assert session.ret == pytest.ExitCode.USAGE_ERROR
    assert "has no commit yet" in session.err


def test_a_folder_that_is_not_there_is_a_usage_error(project: CommitProject) -> None:
    inner = CommitProject(project.top, project.home, "packages/new")
    inner.commit("a new package", FILES)
    session = inner.against("HEAD~1")
    assert session.ret == pytest.ExitCode.USAGE_ERROR
    assert "has no folder packages/new, so nothing to compare" in session.err
    assert inner.checkouts() == []


def test_a_cache_that_cannot_be_written_is_a_usage_error(project: CommitProject) -> None:
    file = project.home / "file"
    file.write_text("in the way\n")
    session = project.against("HEAD", environ={"LLMPERF_CACHE_DIR": str(file / "cache")})
    assert session.ret == pytest.ExitCode.USAGE_ERROR
    assert "set LLMPERF_CACHE_DIR to a folder" in session.all_output


def test_two_bases_at_once_are_a_usage_error(project: CommitProject) -> None:
    session = project.against("HEAD", "--llmperf-against-config=config.yaml")
    assert session.ret == pytest.ExitCode.USAGE_ERROR
    assert "use only one of them" in session.err


def import_from(folder: Path, project: CommitProject) -> None:
    """Commit a conftest.py that puts a folder on the path, and a test that imports the application.

    The test moves away from the application, because pytest puts a test's folder first.
    """
    path = f"import sys\n\nsys.path.insert(0, {str(folder)!r})\n{CONFTEST}"
    project.git("rm", "--quiet", "test_it.py")
    test = "import toy\n" + FILES["test_it.py"]
    project.commit("a path", {"conftest.py": path, "tests/test_it.py": test})


def test_a_base_whose_tests_import_the_other_tree_stops_with_the_reason(
    project: CommitProject,
) -> None:
    """A hard-coded path leads both sides to the same code, so nothing would differ."""
    import_from(project.path, project)
    session = project.against("HEAD", *ONE_PAIR)
    assert session.ret == pytest.ExitCode.TESTS_FAILED
    assert session.report is None
    assert "the base (HEAD (" in session.all_output
    assert f"imported the project's module 'toy' from {project.path}/toy.py" in session.all_output
    assert "both sides would run the same code" in session.all_output


def test_a_base_whose_engine_imports_the_other_tree_stops_with_the_reason(
    project: CommitProject,
) -> None:
    project.commit("a path", {"pytest.ini": f"[pytest]\npythonpath = {project.path}\n"})
    session = project.against("HEAD", *ONE_PAIR)
    assert session.ret == pytest.ExitCode.TESTS_FAILED
    assert session.report is None
    assert f"(in the engine's process)\" from {project.path}/toy.py" in session.all_output


def test_a_session_that_imports_from_elsewhere_stops_with_the_reason(
    project: CommitProject,
) -> None:
    elsewhere = project.home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "toy.py").write_text(FILES["toy.py"])
    import_from(elsewhere, project)
    run = project.against("HEAD", *ONE_PAIR)
    assert run.ret == pytest.ExitCode.TESTS_FAILED
    assert (
        f"this session imported the project's module 'toy' from {elsewhere}/toy.py"
        in run.all_output
    )
