"""The two arguments of ``llmperf compare``: commits, folders and files of sessions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_outputs import Output
from compare_sessions import CHAT, KEY, Project

from pytest_llmperf.baselines.store import BaselineStore

Compare = Callable[..., Output]


@pytest.fixture
def slower(project: Project) -> Project:
    """A commit with ten sessions, and a second commit that adds a slower session."""
    project.base()
    project.record(11, 1.10)
    project.commit("Slower")
    return project


def test_commits_are_named_in_every_way_git_has(slower: Project, llmperf_compare: Compare) -> None:
    slower.git("tag", "v1", "HEAD~1")
    for base in ("v1", "main~1", slower.git("rev-parse", "HEAD~1")[:10]):
        assert llmperf_compare(base, "HEAD").status == 1


def test_the_base_may_be_where_a_branch_began(slower: Project, llmperf_compare: Compare) -> None:
    slower.git("checkout", "--quiet", "-b", "feature")
    slower.record(12, 1.5)
    slower.commit("Feature")
    status, out, _ = llmperf_compare("merge-base:main", "feature")
    assert status == 1
    assert "base: merge-base:main (" in out


def test_commits_that_hold_the_same_sessions_cannot_be_compared(
    slower: Project, llmperf_compare: Compare
) -> None:
    slower.commit("Nothing recorded")
    status, out, err = llmperf_compare("HEAD~1", "HEAD")
    assert (status, out) == (2, "")
    assert "hold the same sessions" in err
    assert "--llmperf-record" in err


def test_the_other_way_around_is_suggested(slower: Project, llmperf_compare: Compare) -> None:
    status, _, err = llmperf_compare("HEAD", "HEAD~1")
    assert status == 2
    assert "has no session that HEAD (" in err
    assert "the base comes first" in err


def test_two_folders(project: Project, llmperf_compare: Compare) -> None:
    old = BaselineStore(Path("old"))
    new = BaselineStore(Path("new"))
    for day in range(1, 11):
        project.record(day, store=old)
    project.record(11, 1.10, store=new)
    status, out, _ = llmperf_compare("old", "new")
    assert status == 1
    assert "base: old, 10 sessions" in out


def test_a_machines_folder_alone(project: Project, llmperf_compare: Compare) -> None:
    old = BaselineStore(Path("old"))
    for day in range(1, 11):
        project.record(day, store=old)
    project.record(11, 1.10)
    status, out, _ = llmperf_compare(f"old/{KEY}", "perf_baselines")
    assert status == 1
    assert f"base: 10 sessions, old/{KEY}/20261101T120000Z" in out
    assert llmperf_compare(f"old/{KEY}/", f"perf_baselines/{KEY}").status == 1


def test_a_machines_folder_under_another_name(project: Project, llmperf_compare: Compare) -> None:
    for day in range(1, 11):
        project.record(day)
    (project.store.root / KEY).rename("downloaded")
    project.record(11, 1.10)
    assert llmperf_compare("downloaded", "perf_baselines").status == 1


def test_decisions_do_not_count_in_a_folder_under_another_name(
    project: Project, llmperf_compare: Compare
) -> None:
    for day in range(1, 11):
        project.record(day)
    (project.store.root / KEY / "decisions").mkdir()
    (project.store.root / KEY).rename("downloaded")
    project.record(11, 1.10)
    assert "its decisions are ignored" in " ".join(
        llmperf_compare("downloaded", "perf_baselines").out.split()
    )


def test_two_recorded_sessions(project: Project, llmperf_compare: Compare) -> None:
    first, second = project.record(1), project.record(2, 1.6)
    status, out, _ = llmperf_compare(str(first), str(second))
    assert status == 1
    assert "1 stored session can decide" in out


def test_the_same_session_twice_is_no_comparison(
    project: Project, llmperf_compare: Compare
) -> None:
    path = project.record(1)
    shutil.copy(path, "copy.json")
    status, _, err = llmperf_compare(str(path), "copy.json")
    assert status == 2
    assert "hold the same sessions" in err


def test_a_commit_and_what_is_not_committed_yet(slower: Project, llmperf_compare: Compare) -> None:
    slower.record(12, 1.5)
    status, out, _ = llmperf_compare("HEAD", "perf_baselines")
    assert status == 1
    assert "20261112T120000Z" in out


def test_a_name_that_is_a_path_and_a_revision_is_the_path(
    slower: Project, llmperf_compare: Compare
) -> None:
    shutil.copytree(slower.store.root, "v1")
    slower.git("tag", "v1", "HEAD~1")
    slower.record(12)
    out = " ".join(llmperf_compare("v1", "perf_baselines").out.split())
    assert "note: base: v1, 11 sessions" in out
    assert "v1 is a path here and a revision, too; the path was taken (rev:v1" in out


def test_a_revision_can_be_forced(slower: Project, llmperf_compare: Compare) -> None:
    shutil.copytree(slower.store.root, "v1")
    slower.git("tag", "v1", "HEAD~1")
    assert "note: base: v1 (" in llmperf_compare("rev:v1", "HEAD").out


def test_an_unknown_name_says_what_is_near(slower: Project, llmperf_compare: Compare) -> None:
    status, _, err = llmperf_compare("mian", "HEAD")
    assert status == 2
    assert err.startswith("llmperf: 'mian' is neither a file, nor a folder, nor a commit: ")
    assert "main" in err.split("nor a commit", 1)[1]


def test_outside_a_repository_there_are_no_commits(
    project: Project, llmperf_compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, _, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert "is in no git repository" in err


def test_a_shallow_clone_says_what_to_fetch(
    slower: Project, llmperf_compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower.git("clone", "--quiet", "--depth=1", f"file://{slower.root}", str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    status, _, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert "git fetch --deepen=1 origin" in err


def test_a_commit_without_baselines_says_so(slower: Project, llmperf_compare: Compare) -> None:
    slower.git("rm", "-r", "--quiet", "perf_baselines")
    slower.commit("Gone")
    status, _, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert ") holds no session in perf_baselines\n" in err
    assert "--dir FOLDER" in err


def test_each_commits_configuration_names_its_folder(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    project.git("mv", "perf_baselines", "speed")
    project.record(11, 1.10, store=BaselineStore(Path("speed")))
    Path("config.yaml").write_text("perf: {baselines: speed}\n")
    project.commit("Moved")
    assert llmperf_compare("HEAD~1", "HEAD").status == 1
    Path("config.yaml").unlink()
    assert llmperf_compare("HEAD~1", "HEAD").status == 1
    assert llmperf_compare("HEAD~1", "HEAD", "--dir", "speed").status == 2


def test_the_environment_names_the_folder_of_every_commit(
    slower: Project, llmperf_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPERF_PERF__BASELINES", "speed")
    status, _, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert "holds no session in speed" in err


def test_a_configuration_that_git_ignores_names_the_folder(
    project: Project, llmperf_compare: Compare
) -> None:
    Path(".gitignore").write_text("config.yaml\n")
    Path("config.yaml").write_text("perf: {baselines: speed}\n")
    store = BaselineStore(Path("speed"))
    for day in range(1, 11):
        project.record(day, store=store)
    project.commit()
    project.record(11, 1.10, store=store)
    project.commit()
    assert llmperf_compare("HEAD~1", "HEAD").status == 1


def test_a_configuration_that_cannot_be_read_is_passed_over(
    slower: Project, llmperf_compare: Compare
) -> None:
    Path("config.yaml").write_text("perf: [\n")
    slower.commit("Broken configuration")
    slower.record(12, 1.5)
    slower.commit()
    Path("config.yaml").unlink()
    assert llmperf_compare("HEAD~1", "HEAD").status == 1


def test_an_option_names_the_folder_of_commits(slower: Project, llmperf_compare: Compare) -> None:
    slower.git("mv", "perf_baselines", "speed")
    slower.commit()
    slower.record(12, 1.5, store=BaselineStore(Path("speed")))
    slower.commit()
    assert llmperf_compare("HEAD~1", "HEAD", "--dir", "speed").status == 1


def test_a_project_in_a_subfolder(
    project: Project, llmperf_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BaselineStore(project.root / "sub" / "perf_baselines")
    for day in range(1, 11):
        project.record(day, store=store)
    project.commit()
    project.record(11, 1.10, store=store)
    project.commit()
    monkeypatch.chdir(project.root / "sub")
    status, out, _ = llmperf_compare("HEAD~1", "HEAD")
    assert status == 1
    assert f"sub/perf_baselines/{KEY}/20261111" in out


def test_baselines_outside_the_repository_are_in_no_commit(
    slower: Project, llmperf_compare: Compare, tmp_path: Path
) -> None:
    status, _, err = llmperf_compare("HEAD~1", "HEAD", "--dir", str(tmp_path / "shared"))
    assert status == 2
    assert "lies outside the repository" in err


def test_a_projects_folder_is_no_side(slower: Project, llmperf_compare: Compare) -> None:
    status, _, err = llmperf_compare(".", "HEAD")
    assert status == 2
    assert "name the folder of its baselines, such as perf_baselines" in err


def test_a_folder_without_sessions_is_no_side(project: Project, llmperf_compare: Compare) -> None:
    Path("empty").mkdir()
    status, _, err = llmperf_compare("empty", "empty")
    assert status == 2
    assert err.startswith("llmperf: empty: no session is recorded there")


@pytest.mark.parametrize("content", ["{}", "[1]", "not JSON", "", '{"schema": 1}'])
def test_a_file_that_is_no_session_is_named(
    project: Project, llmperf_compare: Compare, content: str
) -> None:
    Path("other.json").write_text(content)
    status, _, err = llmperf_compare("other.json", "other.json")
    assert status == 2
    assert err.startswith("llmperf: other.json")
    assert "name a recorded session" in err
    assert "delete" not in err


@pytest.mark.skipif(os.name == "nt", reason="no such files there")
def test_a_pipe_is_no_side(project: Project, llmperf_compare: Compare) -> None:
    os.mkfifo("pipe")
    Path("nowhere").symlink_to("gone")
    for name in ("pipe", "nowhere"):
        status, _, err = llmperf_compare(name, name)
        assert status == 2
        assert err.startswith(f"llmperf: {name} is not a file, a folder or a link to one")


def test_a_bad_file_of_a_commit_is_named_with_the_commit(
    slower: Project, llmperf_compare: Compare
) -> None:
    (slower.store.root / KEY / "bad.json").write_text("{")
    slower.commit("Broken")
    status, _, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    lines = err.splitlines()
    assert lines[0].endswith(" Broken) holds baselines in perf_baselines that cannot be used:")
    assert lines[1].startswith(f"  {KEY}/bad.json:1: not JSON")
    assert "checkout" not in err


def test_a_commit_of_a_newer_plugin_says_to_upgrade(
    slower: Project, llmperf_compare: Compare
) -> None:
    path = slower.record(12)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    slower.commit()
    status, _, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert "pip install --upgrade pytest-llmperf" in err


@pytest.mark.parametrize("name", ["a b", "line\nbreak", "ünï", "-dash", "$(x)`y`"])
def test_any_name_is_a_folder(project: Project, llmperf_compare: Compare, name: str) -> None:
    if os.name == "nt" and name == "line\nbreak":
        pytest.skip("no such names there")
    store = BaselineStore(Path(name))
    for day in range(1, 11):
        project.record(day, store=store)
    project.record(11, 1.10)
    status, out, _ = llmperf_compare("--", name, "perf_baselines")
    assert status == 1
    assert "10 sessions" in " ".join(out.split())


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_a_name_that_is_no_text_is_a_folder(project: Project, llmperf_compare: Compare) -> None:
    name = os.fsdecode(b"caf\xe9")
    store = BaselineStore(Path(name))
    for day in range(1, 11):
        project.record(day, store=store)
    project.record(11, 1.10)
    for form in ("text", "markdown", "json"):
        status, out, _ = llmperf_compare(name, "perf_baselines", "--format", form)
        assert status == 1
        assert "caf" in out


@pytest.mark.parametrize("name", ["", "--upload-pack=x", "a" * 5000, "HEAD..main", "HEAD:perf"])
def test_a_name_that_can_be_no_commit_is_refused(
    slower: Project, llmperf_compare: Compare, name: str
) -> None:
    assert llmperf_compare("--", name, "HEAD").status == 2


def test_the_repository_is_only_read(slower: Project, llmperf_compare: Compare) -> None:
    (slower.root / "untracked").write_text("mine")
    before = _content(slower.root)
    llmperf_compare("HEAD~1", "HEAD")
    llmperf_compare("HEAD~1", "perf_baselines", "--format", "markdown")
    assert _content(slower.root) == before


def _content(root: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_hook_that_calls_it_names_its_own_repository(
    slower: Project, llmperf_compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert llmperf_compare("HEAD~1", "HEAD").status == 1


def test_a_later_store_is_compared_without_the_bases_sessions(
    slower: Project, llmperf_compare: Compare
) -> None:
    slower.git("checkout", "--quiet", "HEAD~1")
    shutil.copytree(slower.store.root, "old")
    slower.git("checkout", "--quiet", "main")
    status, out, _ = llmperf_compare("old", "perf_baselines")
    assert status == 1
    assert "the only session of its own" in " ".join(out.split())


def test_one_test_may_stand_in_an_older_session(slower: Project, llmperf_compare: Compare) -> None:
    other = "tests/perf/test_other.py::test_other"
    slower.record(12, tests=(other,))
    slower.commit()
    out = " ".join(llmperf_compare("HEAD~2", "HEAD").out.split())
    assert CHAT in out
    assert "1 test, 3 checks: 3 regressed" in out
