"""A commit checked out beside the user's work tree; the user's repository stays untouched."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from commit_projects import repository_at, snapshot
from git_projects import commit, git, make, write

from pytest_llmperf.repository.checkout import check_out
from pytest_llmperf.repository.git import GitError, Repository

BASE = "HEAD~1"


def base_of(repository: Repository) -> str:
    commit_id = repository.commit(BASE)
    assert commit_id is not None
    return commit_id


def leftovers(cache: Path) -> list[str]:
    """Return what is left of checkouts, except for the folder's own lock files."""
    return sorted(path.name for path in (cache / "worktrees").glob("[!.]*"))


def test_the_commits_files_are_there_and_gone_after_closing(
    repository: Repository, cache: Path
) -> None:
    checkout = check_out(repository, base_of(repository), cache)
    assert (checkout.top / "code.py").read_text() == "x = 1\n"
    assert checkout.commit == base_of(repository)
    assert checkout.top.is_relative_to(cache / "worktrees")
    checkout.close()
    checkout.close()
    assert not checkout.top.exists()
    assert leftovers(cache) == []


def test_it_is_removed_when_an_error_ends_its_use(repository: Repository, cache: Path) -> None:
    with pytest.raises(ZeroDivisionError), check_out(repository, base_of(repository), cache):
        _ = 1 // 0
    assert leftovers(cache) == []


def test_the_users_repository_keeps_every_byte(
    project: Path, repository: Repository, cache: Path
) -> None:
    write(project / "code.py", "x = 3\n")
    write(project / "untracked.txt", "mine")
    git(project, "stash", "--quiet")
    write(project / "code.py", "x = 4\n")
    git(project, "add", "code.py")
    base = base_of(repository)
    before = snapshot(project)
    with check_out(repository, base, cache) as checkout:
        git(checkout.top, "status")
        write(checkout.top / "code.py", "changed there")
    assert snapshot(project) == before


def test_what_a_test_does_with_git_in_it_stays_there(
    project: Path, repository: Repository, cache: Path
) -> None:
    base = base_of(repository)
    # Git updates the times of existing objects instead of writing them again.
    before = snapshot(project, times=False)
    with check_out(repository, base, cache) as checkout:
        commit(checkout.top, "a commit there", code__py="changed there")
        git(checkout.top, "branch", "a-branch-there")
        git(checkout.top, "stash", "list")
        git(checkout.top, "gc", "--quiet", "--prune=now")
    assert snapshot(project, times=False) == before


def test_it_is_clean_detached_and_knows_the_users_names(
    project: Path, repository: Repository, cache: Path
) -> None:
    git(project, "tag", "-a", "v1.2", "-m", "a release", BASE)
    git(project, "update-ref", "refs/remotes/origin/feature", "HEAD")
    with check_out(repository, base_of(repository), cache) as checkout:
        assert git(checkout.top, "status", "--porcelain") == ""
        assert git(checkout.top, "describe", "--dirty") == "v1.2"
        assert git(checkout.top, "rev-parse", "origin/feature") == repository.head()
        inside = repository_at(checkout.top)
        assert (inside.top, inside.branch()) == (checkout.top.resolve(), None)


def test_the_folder_has_the_users_name(repository: Repository, cache: Path) -> None:
    with check_out(repository, base_of(repository), cache) as checkout:
        assert checkout.top.name == repository.top.name


def test_two_at_once_do_not_meet(repository: Repository, cache: Path) -> None:
    head = repository.head()
    assert head is not None
    with check_out(repository, base_of(repository), cache) as first:
        with check_out(repository, head, cache) as second:
            assert (first.top / "code.py").read_text() == "x = 1\n"
            assert (second.top / "code.py").read_text() == "x = 2\n"
        assert (first.top / "code.py").exists()


def test_hooks_do_not_run(project: Path, repository: Repository, cache: Path) -> None:
    ran = cache.parent / "ran"
    hook = write(project / ".git" / "hooks" / "post-checkout", f"#!/bin/sh\ntouch '{ran}'\n")
    hook.chmod(0o755)
    git(project, "config", "core.hooksPath", str(hook.parent))
    with check_out(repository, base_of(repository), cache) as checkout:
        git(checkout.top, "checkout", "--quiet", "--detach", "HEAD")
    assert not ran.exists()


def test_it_works_from_a_hook(project: Path, cache: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from pytest_llmperf.repository.git import Repository\n"
        "from pytest_llmperf.repository.checkout import check_out\n"
        "r = Repository.around(Path.cwd())\n"
        f"with check_out(r, r.commit('HEAD~1'), Path({str(cache)!r})) as checkout:\n"
        "    print((checkout.top / 'code.py').read_text())\n"
    )
    script = write(project.parent / "hook.py", code)
    hook = write(
        project / ".git" / "hooks" / "pre-commit",
        f"#!/bin/sh\nexec '{sys.executable}' '{script}' >'{project.parent}/said'\n",
    )
    hook.chmod(0o755)
    root = Path(__file__).parents[2]
    write(project / "code.py", "x = 3\n")
    subprocess.run(
        ["git", "commit", "--quiet", "-am", "with a hook"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
        timeout=60,
    )
    assert (project.parent / "said").read_text().strip() == "x = 1"
    assert git(project, "status", "--porcelain") == ""


def test_it_works_from_a_linked_work_tree(project: Path, cache: Path, tmp_path: Path) -> None:
    git(project, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    linked = repository_at(tmp_path / "linked")
    before = snapshot(project), snapshot(linked.top)
    with check_out(linked, base_of(linked), cache) as checkout:
        assert (checkout.top / "code.py").read_text() == "x = 1\n"
    assert (snapshot(project), snapshot(linked.top)) == before


def test_a_repository_that_itself_borrows_objects_works(
    project: Path, cache: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", "--shared", str(project), "shared")
    shared = repository_at(tmp_path / "shared")
    with check_out(shared, base_of(shared), cache) as checkout:
        assert (checkout.top / "code.py").read_text() == "x = 1\n"


def test_a_shallow_clone_works(project: Path, cache: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", project.resolve().as_uri(), "shallow")
    shallow = repository_at(tmp_path / "shallow")
    head = shallow.head()
    assert head is not None
    with check_out(shallow, head, cache) as checkout:
        assert git(checkout.top, "log", "--format=%s") == "the second one"


def test_sha256_repositories_work(cache: Path, tmp_path: Path) -> None:
    root = make(tmp_path / "sha256", "--object-format=sha256")
    commit(root, code__py="x = 1\n")
    repository = repository_at(root)
    head = repository.head()
    assert head is not None
    assert len(head) == 64
    with check_out(repository, head, cache) as checkout:
        assert (checkout.top / "code.py").read_text() == "x = 1\n"


@pytest.mark.parametrize("name", ["two words", "line\nbreak", "ünï", '"quoted"', "#hash", "-dash"])
def test_any_folder_name_works(tmp_path: Path, name: str) -> None:
    root = make(tmp_path / name)
    commit(root, code__py="x = 1\n", **{name.replace(".", "_"): "a file of that name\n"})
    repository = repository_at(root)
    head = repository.head()
    assert head is not None
    with check_out(repository, head, tmp_path / f"cache {name}") as checkout:
        assert git(checkout.top, "status", "--porcelain") == ""
        assert (checkout.top / name).read_text() == "a file of that name\n"


def test_names_that_are_no_unicode_work(project: Path, repository: Repository, cache: Path) -> None:
    raw = os.fsdecode(b"caf\xe9.txt")
    try:
        write(project / raw, "latin-1")
    except OSError:
        pytest.skip("this file system takes only Unicode")
    head = commit(project)
    with check_out(repository, head, cache) as checkout:
        assert (checkout.top / raw).read_text() == "latin-1"


def test_line_endings_and_filters_are_the_users(
    project: Path, repository: Repository, cache: Path
) -> None:
    git(project, "config", "core.autocrlf", "true")
    git(project, "config", "filter.loud.smudge", "tr a-z A-Z")
    write(project / ".git" / "info" / "attributes", "kept.txt filter=loud\n")
    with check_out(repository, base_of(repository), cache) as checkout:
        assert (checkout.top / "code.py").read_bytes() == b"x = 1\r\n"
        assert (checkout.top / "kept.txt").read_bytes() == b"SAME\r\n"


def test_a_sparse_checkout_stays_sparse(project: Path, repository: Repository, cache: Path) -> None:
    head = commit(project, **{"wanted/a": "a", "unwanted/b": "b"})
    git(project, "sparse-checkout", "set", "wanted")
    with check_out(repository, head, cache) as checkout:
        assert (checkout.top / "wanted" / "a").exists()
        assert not (checkout.top / "unwanted").exists()


def test_models_that_git_ignores_are_linked_at_their_places(
    project: Path, repository: Repository, cache: Path
) -> None:
    commit(project, __gitignore="models/\n")
    write(project / "models" / "deep" / "small.GGUF", "ignored")
    write(project / "plain.gguf", "untracked")
    write(project / "models" / "notes.txt", "no model")
    with check_out(repository, base_of(repository), cache) as checkout:
        linked = checkout.top / "models" / "deep" / "small.GGUF"
        assert linked.is_symlink()
        assert linked.read_text() == "ignored"
        assert (checkout.top / "plain.gguf").read_text() == "untracked"
        assert not (checkout.top / "models" / "notes.txt").exists()
        assert git(checkout.top, "status", "--porcelain") == ""
    assert (project / "models" / "deep" / "small.GGUF").read_text() == "ignored"


def test_a_commits_own_model_is_not_replaced(
    project: Path, repository: Repository, cache: Path
) -> None:
    commit(project, model__gguf="the commit's")
    git(project, "rm", "--quiet", "--cached", "model.gguf")
    commit(project, __gitignore="*.gguf\n")
    write(project / "model.gguf", "mine")
    with check_out(repository, base_of(repository), cache) as checkout:
        assert (checkout.top / "model.gguf").read_text() == "the commit's"


def test_a_link_of_the_commit_does_not_lead_out_of_the_checkout(
    project: Path, repository: Repository, cache: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (project / "models").symlink_to(elsewhere)
    commit(project)
    (project / "models").unlink()
    commit(project)
    write(project / "models" / "small.gguf", "untracked")
    with check_out(repository, base_of(repository), cache) as checkout:
        assert (checkout.top / "models").is_symlink()
    assert list(elsewhere.iterdir()) == []


def test_models_of_a_virtual_environment_are_left_out(
    project: Path, repository: Repository, cache: Path
) -> None:
    write(project / ".venv" / "pyvenv.cfg", "")
    write(project / ".venv" / "lib" / "package" / "embedded.gguf", "its own")
    with check_out(repository, base_of(repository), cache) as checkout:
        assert not (checkout.top / ".venv").exists()


def test_a_partial_clone_says_what_to_fetch_and_that_helps(
    project: Path, cache: Path, tmp_path: Path
) -> None:
    git(project, "config", "uploadpack.allowFilter", "true")
    url = project.resolve().as_uri()
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", url, "partial")
    partial = repository_at(tmp_path / "partial")
    before = snapshot(partial.top)
    with pytest.raises(GitError, match="this is a partial clone") as error:
        check_out(partial, base_of(partial), cache)
    assert snapshot(partial.top) == before
    assert leftovers(cache) == []
    line = "git " + str(error.value).rpartition("with git ")[2]
    git(partial.top, *line.split()[1:])
    with check_out(partial, base_of(partial), cache) as checkout:
        assert (checkout.top / "code.py").read_text() == "x = 1\n"


def test_a_cache_that_cannot_be_written_is_named(repository: Repository, tmp_path: Path) -> None:
    write(tmp_path / "file", "no folder")
    with pytest.raises(GitError, match=r"can't make a checkout in .*file.*LLMPERF_CACHE_DIR"):
        check_out(repository, base_of(repository), tmp_path / "file")


def test_a_filter_that_fails_is_named_and_leaves_nothing(
    project: Path, repository: Repository, cache: Path
) -> None:
    git(project, "config", "filter.broken.smudge", "false")
    git(project, "config", "filter.broken.required", "true")
    write(project / ".git" / "info" / "attributes", "kept.txt filter=broken\n")
    with pytest.raises(GitError, match=r"can't check out [0-9a-f]{40} .*filter broken failed"):
        check_out(repository, base_of(repository), cache)
    assert leftovers(cache) == []


def test_read_only_files_and_folders_are_removed(
    project: Path, repository: Repository, cache: Path
) -> None:
    checkout = check_out(repository, base_of(repository), cache)
    locked = write(checkout.top / "locked" / "file", "x").parent
    (locked / "file").chmod(stat.S_IRUSR)
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    checkout.close()
    assert leftovers(cache) == []
