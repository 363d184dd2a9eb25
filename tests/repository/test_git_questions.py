"""Questions to git about a repository, which change nothing in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commit_projects import repository_at, snapshot
from git_projects import commit, git, make, write

from pytest_llmperf.repository.git import GitError, Repository


def test_the_top_and_the_own_folder_are_found_from_below(project: Path) -> None:
    below = project / "sub"
    below.mkdir()
    found = repository_at(below)
    assert (found.top, found.common_dir) == (project.resolve(), (project / ".git").resolve())


def test_a_linked_work_tree_has_its_own_top_and_the_shared_folder(
    project: Path, tmp_path: Path
) -> None:
    git(project, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    repository = repository_at(tmp_path / "linked")
    assert repository.top == (tmp_path / "linked").resolve()
    assert repository.common_dir == (project / ".git").resolve()


def test_a_name_with_line_breaks_is_kept(tmp_path: Path) -> None:
    root = make(tmp_path / "a\nname\n")
    repository = repository_at(root)
    assert repository.top == root.resolve()


def test_a_folder_outside_of_any_and_one_that_is_missing_have_no_repository(
    tmp_path: Path,
) -> None:
    assert Repository.around(tmp_path) is None
    assert Repository.around(tmp_path / "missing") is None


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away"
)
def test_another_users_repository_is_told_with_gits_remedy(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    for path in (project, project / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(GitError, match=r"another user: if .*, run git config .*safe\.directory"):
        Repository.around(project)


def test_git_that_is_gone_later_is_named(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GitError, match="git is not installed, or not on PATH"):
        repository.run("status")


def test_what_a_hook_leaves_in_the_environment_names_no_other_repository(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make(tmp_path / "other")
    head = git(project, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    repository = repository_at(project)
    assert repository.head() == head


@pytest.mark.parametrize("name", ["HEAD", "main", "v1", "HEAD~1^0", "full", "short"])
def test_a_commit_is_found_by_every_name_git_knows(
    project: Path, repository: Repository, name: str
) -> None:
    git(project, "tag", "-a", "v1", "-m", "a tag with a message")
    full = git(project, "rev-parse", "HEAD~1" if "~" in name else "HEAD")
    asked = {"full": full, "short": full[:10]}.get(name, name)
    assert repository.commit(asked) == full


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "--help",
        "-h",
        "--all",
        "^HEAD",
        "HEAD~1..HEAD",
        "HEAD HEAD",
        "HEAD\n",
        "HEAD\0",
        "HEAD^{tree}",
        "HEAD:code.py",
        "nothing",
        "\udcff",
        "\N{GREEK SMALL LETTER ALPHA}\ud800",
        "0" * 40,
    ],
)
def test_what_names_no_commit_is_none(repository: Repository, name: str) -> None:
    assert repository.commit(name) is None


def test_a_hash_of_a_file_is_no_commit(repository: Repository) -> None:
    blob = repository.files("HEAD")["code.py"]
    assert repository.commit(blob) is None


def test_branch_and_head_of_an_unborn_branch(tmp_path: Path) -> None:
    repository = repository_at(make(tmp_path / "empty"))
    assert (repository.head(), repository.branch()) == (None, "main")


def test_a_detached_head_has_no_branch(project: Path, repository: Repository) -> None:
    git(project, "checkout", "--quiet", "--detach")
    assert repository.branch() is None


def test_the_subject_is_the_first_line(project: Path, repository: Repository) -> None:
    new = commit(project, "Faster: ünï\n\nwith a body")
    assert repository.subject(new) == "Faster: ünï"


def test_ancestors_and_the_merge_base(project: Path, repository: Repository) -> None:
    fork = git(project, "rev-parse", "HEAD")
    git(project, "switch", "--quiet", "-c", "side")
    side = commit(project, "on the side")
    git(project, "switch", "--quiet", "main")
    main = commit(project, "on main")
    assert repository.merge_base(side, main) == fork
    assert repository.is_ancestor(fork, side)
    assert repository.is_ancestor(side, side)
    assert not repository.is_ancestor(side, main)


def test_separate_histories_have_no_merge_base(project: Path, repository: Repository) -> None:
    git(project, "switch", "--quiet", "--orphan", "other")
    other_root = commit(project, "another root")
    assert repository.merge_base(other_root, "main") is None


def test_files_are_the_regular_ones_below_a_folder(project: Path, repository: Repository) -> None:
    write(project / "base" / "m*" / "a.json", "star")
    write(project / "base" / "mx" / "b.json", "x")
    write(project / "base.txt", "beside")
    write(project / ":(icase)base" / "c.json", "magic")
    (project / "base" / "link").symlink_to("mx")
    commit(project)
    assert set(repository.files("HEAD", "base")) == {"base/m*/a.json", "base/mx/b.json"}
    assert set(repository.files("HEAD", "base/m*/")) == {"base/m*/a.json"}
    assert set(repository.files("HEAD", ":(icase)base")) == {":(icase)base/c.json"}
    assert set(repository.files("HEAD")) >= {"code.py", "base.txt", "base/mx/b.json"}


@pytest.mark.parametrize("folder", ["nothing", "../a project", "/etc", "--all", "base:x"])
def test_a_folder_that_is_not_there_has_no_files(repository: Repository, folder: str) -> None:
    assert repository.files("HEAD", folder) == {}


def test_blobs_come_in_order_with_their_bytes(project: Path, repository: Repository) -> None:
    raw = bytes(range(256)) * 3
    commit(project, bin=raw, empty="", last="no line break")
    files = repository.files("HEAD")
    ids = [files[name] for name in ("last", "bin", "empty", "bin")]
    assert list(repository.blobs(ids)) == [b"no line break", raw, b"", raw]


def test_more_blobs_than_pipes_hold_are_read(project: Path, repository: Repository) -> None:
    commit(project, big="x" * 300_000)
    ids = [repository.files("HEAD")["big"], repository.files("HEAD")["code.py"]] * 3000
    assert sum(map(len, repository.blobs(ids[:200]))) == 100 * 300_006
    reader = repository.blobs(ids)
    assert len(next(reader)) == 300_000
    reader.close()  # closing the reader early ends git, too


def test_a_blob_that_is_not_there_is_an_error(repository: Repository) -> None:
    with pytest.raises(GitError, match=f"object {'1' * 40} of .* can't be read"):
        list(repository.blobs(["1" * 40]))


def test_a_failure_is_told_in_gits_own_words(repository: Repository) -> None:
    with pytest.raises(GitError, match=r"git log failed in .*a project: fatal: bad revision"):
        repository.run("log", "nothing", "--")
    assert repository.run("log", "nothing", "--", check=False) == ""


def test_asking_changes_no_byte(project: Path, repository: Repository) -> None:
    # Git would refresh the index and create a file monitor's socket by itself.
    git(project, "config", "core.fsmonitor", "true")
    git(project, "config", "core.untrackedCache", "true")
    os.utime(project / "code.py", (1, 1))
    before = snapshot(project)
    for question in (
        repository.head,
        repository.branch,
        repository.is_shallow,
        lambda: repository.files("HEAD"),
        lambda: repository.run("status", "--porcelain"),
        lambda: repository.merge_base("HEAD", "HEAD~1"),
        lambda: repository.subject("HEAD"),
    ):
        question()
    assert snapshot(project) == before


def test_a_partial_clone_is_not_filled_by_reading(project: Path, tmp_path: Path) -> None:
    git(project, "config", "uploadpack.allowFilter", "true")
    url = project.resolve().as_uri()
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", "--no-checkout", url, "partial")
    repository = repository_at(tmp_path / "partial")
    before = snapshot(tmp_path / "partial")
    with pytest.raises(GitError, match="partial clone"):
        list(repository.blobs(list(repository.files("HEAD").values())))
    assert snapshot(tmp_path / "partial") == before


def test_blobs_that_are_too_long_or_not_here_are_left_out(
    project: Path, repository: Repository
) -> None:
    (project / "long.txt").write_text("x" * 3_000_000)
    git(project, "add", "long.txt")
    commit(project)
    files = repository.files("HEAD")
    ids = [files["long.txt"], "0" * 40, files["code.py"]]
    content = (project / "code.py").read_bytes()
    assert list(repository.available_blobs(ids, 1_000)) == [None, None, content]
