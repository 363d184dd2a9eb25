"""Asking git about a repository runs none of the programs that its own settings name."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from commit_projects import ONE_PAIR, ROOT, CommitProject, git, isolate_git, repository_at, snapshot
from git_traps import Traps, plain_git

import pytest_llmperf
from pytest_llmperf.bisect.history import look_up
from pytest_llmperf.history.sessions import read_sessions
from pytest_llmperf.repository.checkout import export
from pytest_llmperf.repository.revisions import RevisionError, resolve
from pytest_llmperf.repository.state import changed_since, ignored, read_provenance, state_of


@pytest.fixture
def traps(tmp_path: Path) -> Traps:
    return Traps(tmp_path / "traps")


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide this user's settings from the git commands that this process runs."""
    isolate_git(monkeypatch)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def test_the_traps_work(project: CommitProject, traps: Traps) -> None:
    traps.set_in(project.top)
    environ = {**project.environ, "GIT_PAGER_IN_USE": "1"}
    for words in (["status"], ["log", "-1"], ["diff"]):
        subprocess.run(["git", *words], cwd=project.top, env=environ, check=False)
    assert traps.ran() >= {"core.fsmonitor", "filter.trap.process", "gpg.program"}


@pytest.mark.usefixtures("isolated")
def test_no_question_runs_anything(project: CommitProject, traps: Traps, tmp_path: Path) -> None:
    inner = CommitProject(tmp_path / "inner", tmp_path / "home")
    inner.commit("inside", {"code.py": "x = 1\n"})
    allowed = ("-c", "protocol.file.allow=always")
    project.git(*allowed, "submodule", "--quiet", "add", str(inner.top), "inner")
    record = "perf_baselines/a-machine/20260101T000000Z_1.json"
    for number in range(3):
        project.commit(f"record {number}", {record.replace("_1", f"_{number}"): f"{number}"})
    (project.top / record).unlink()
    project.commit("one is removed")
    traps.set_in(project.top / "inner")
    traps.set_in(project.top)
    project.write({"toy.py": "changed = True\n", "untracked.py": "x = 2\n"})
    before = snapshot(project.top)
    repository = repository_at(project.top)
    head = repository.head()
    assert head is not None

    assert read_provenance(project.top)[:3] == (head, True, "main")
    assert state_of(repository).startswith(f"{head}+")
    assert "toy.py" in changed_since(repository, "HEAD~1")
    assert ignored(repository) == []
    assert resolve(repository, "HEAD~1").subject == "record 2"
    with pytest.raises(RevisionError):
        resolve(repository, "nothing-of-the-kind")
    assert look_up(repository, head).subject == "one is removed"
    export(repository, head, "perf_baselines", tmp_path / "exported")
    recorded = read_sessions(repository, "perf_baselines")
    # None is a valid record, but each was found and read, the removed one too.
    assert len(recorded.files.blobs) == 3
    assert traps.ran() == set()
    assert snapshot(project.top) == before


@pytest.mark.usefixtures("isolated")
def test_history_is_read_although_a_monitor_reads_its_input(
    project: CommitProject, traps: Traps
) -> None:
    for number in range(3):
        project.commit(f"record {number}", {f"perf_baselines/a/{number}.json": f"{number}"})
    project.git("config", "core.fsmonitor", traps.program("core.fsmonitor"))
    recorded = read_sessions(repository_at(project.top), "perf_baselines")
    assert len(recorded.files.blobs) == 3
    assert traps.ran() == set()


def test_no_command_runs_anything(project: CommitProject, traps: Traps) -> None:
    project.commit("another one", {"toy.py": (project.path / "toy.py").read_text() + "# more\n"})
    # The files of a checkout are written by the repository's own filters, as git itself does:
    # docs/commits.md. Nothing is ever passed through a filter to find out what changed.
    traps.set_in(project.top, without=("filter.trap.process",))

    session = project.against("HEAD~1", "--llmperf-record", *ONE_PAIR)
    assert session.verdicts == {"test_a": "inconclusive"}, session.all_output
    (baseline,) = project.baselines()
    # No filter was asked, and the files are those of the commit.
    assert '"dirty": false' in baseline.read_text()
    assert traps.ran() == set()
    for words in (("add", "-A"), ("commit", "--quiet", "-m", "a session")):
        plain_git(project.top, "-c", "filter.trap.clean=cat", *words)

    confirmed = project.perf("--llmperf-confirm=always", "--llmperf-set=perf.max_pairs=1")
    assert confirmed.ret == 0, confirmed.all_output
    for words in (
        ["history"],
        ["compare", "HEAD", "HEAD", "--any"],
        ["baseline", "show"],
        ["baseline", "accept", "--reason", "as it is"],
        ["bisect", "HEAD~2", "HEAD", "--", "--llmperf-set=perf.max_pairs=1"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pytest_llmperf.cli", *words],
            cwd=project.path,
            env={**project.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        # 0: nothing got slower; 2: refused, such as comparing HEAD with itself.
        assert done.returncode in (0, 2), f"{words}: {done.stdout} {done.stderr}"
        assert traps.ran() == set(), words


@pytest.mark.usefixtures("isolated")
def test_what_git_lfs_keeps_elsewhere_is_no_change(project: CommitProject, traps: Traps) -> None:
    content = b"weights" * 100
    digest = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 700\n"
    project.commit("a model", {"model.bin": pointer, ".gitattributes": "*.bin filter=lfs -text\n"})
    # As ``git lfs install --local`` does.
    for name, words in (("clean", "clean -- %f"), ("process", "filter-process")):
        project.git("config", f"filter.lfs.{name}", f"{traps.program(name)} {words}")
    project.git("config", "filter.lfs.required", "true")
    (project.top / "model.bin").write_bytes(content)
    head = project.git("rev-parse", "HEAD")
    assert read_provenance(project.top)[:3] == (head, False, "main")
    assert state_of(repository_at(project.top)) == head
    (project.top / "model.bin").write_bytes(content.upper())
    assert read_provenance(project.top)[:3] == (head, True, "main")
    assert traps.ran() == set()


@pytest.mark.usefixtures("isolated")
def test_filters_of_the_user_are_the_users_own(
    project: CommitProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "settings"
    settings.write_text('[filter "lower"]\n\tclean = tr A-Z a-z\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    head = project.commit("text", {"text": "text\n", ".gitattributes": "text filter=lower\n"})
    (project.top / "text").write_text("TEXT\n")
    assert read_provenance(project.top)[:3] == (head, False, "main")
    project.git("config", "filter.lower.smudge", "cat")  # from here on it is the repository's, too
    assert read_provenance(project.top)[:3] == (head, True, "main")


@pytest.mark.usefixtures("isolated")
def test_a_hash_stands_for_its_own_content(project: CommitProject, tmp_path: Path) -> None:
    commit = project.git("rev-parse", "HEAD")
    own = project.git("rev-parse", "HEAD:config.yaml")
    other = git(project.top, "rev-parse", "HEAD:pytest.ini")
    wanted = project.git("cat-file", "blob", own)
    project.git("replace", own, other)
    repository = repository_at(project.top)
    assert next(repository.blobs([own])).decode().strip() == wanted
    export(repository, commit, "config.yaml", tmp_path)
    assert (tmp_path / "config.yaml").read_text().strip() == wanted
    # A graft is followed, as git itself does: the second commit has no parent any more.
    first = commit
    second = project.commit("the second one")
    project.git("replace", "--graft", second)
    assert repository.commit("HEAD~1") is None
    assert not repository.is_ancestor(first, second)


def test_git_is_run_in_one_place() -> None:
    package = Path(pytest_llmperf.__file__).parent
    starting, calling = [], []
    for file in package.rglob("*.py"):
        name = file.relative_to(package).as_posix()
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        imported = {
            alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
        }
        if "subprocess" in imported and name.startswith(("repository", "history", "bisect")):
            starting.append(name)
        if any(_begins_with_git(node) for node in nodes):
            calling.append(name)
    assert calling == ["repository/command.py"]
    assert starting == ["repository/command.py"]


def _begins_with_git(node: ast.AST) -> bool:
    """Return whether a node is a call with a git command as an argument, or a list of one."""
    if isinstance(node, ast.Call):
        return any(_is_git(argument) for argument in node.args) and (
            not isinstance(node.func, ast.Attribute) or node.func.attr not in ("get", "append")
        )
    return isinstance(node, ast.List) and bool(node.elts) and _is_git(node.elts[0])


def _is_git(node: ast.AST) -> bool:
    if isinstance(node, ast.Tuple) and node.elts:
        return _is_git(node.elts[0])
    text = node.value if isinstance(node, ast.Constant) else None
    return isinstance(text, str) and (text == "git" or text.startswith("git "))
