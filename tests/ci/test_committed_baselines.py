"""Baselines recorded on the main branch are committed: once, and on top of other pushes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from ci_files import ACTION, GITLAB, bash, environment, gitlab_script, read_yaml, step
from commit_projects import git

#: A hook that pushes somebody else's commit just before the job's own push.
RACE = """#!/bin/sh
[ ! -e {mark} ] || exit 0
touch {mark}
cd {other} && git -c user.name=o -c user.email=o@o commit -q --allow-empty -m other &&
git push -q origin HEAD:refs/heads/main
"""
PROTECTED = "#!/bin/sh\necho 'GH006: Protected branch update failed' >&2\nexit 1\n"


class Job:
    """A clone in which a session was recorded, and the script that commits it.

    Args:
        top: a folder for the repositories.
        service: github or gitlab.
        script: the script that commits.
    """

    def __init__(self, top: Path, service: str, script: str) -> None:
        self.remote, self.clone = top / "remote.git", top / "clone"
        self._service, self._script = service, script
        git(top, "init", "--quiet", "--bare", "-b", "main", "remote.git")
        git(top, "init", "--quiet", "-b", "main", "clone")
        (self.clone / "toy.py").write_text("")
        git(self.clone, "remote", "add", "origin", str(self.remote))
        git(self.clone, "add", ".")
        git(self.clone, "commit", "--quiet", "-m", "first")
        git(self.clone, "push", "--quiet", "origin", "main")
        self.measured = git(self.clone, "rev-parse", "--short", "HEAD")

    def record(self, name: str = "20260101T000000Z_a.json") -> None:
        """Write the files that a session leaves."""
        folder = self.clone / "perf_baselines" / "a-machine"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}\n")
        # Other files of a job are not committed.
        (self.clone / "toy.py").write_text("# changed by the job\n")
        (self.clone / "report.html").write_text("")

    def hook(self, folder: Path, name: str, text: str) -> None:
        """Add a hook to a repository."""
        file = folder / "hooks" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def commit(self) -> CompletedProcess[str]:
        """Run the script."""
        names = {"BASELINES": "perf_baselines", "BRANCH": "main"}
        if self._service == "gitlab":
            names = {
                "LLMPERF_BASELINES": "perf_baselines",
                "CI_COMMIT_BRANCH": "main",
                "CI_PROJECT_DIR": str(self.clone),
                "CI_PROJECT_URL": str(self.remote).removesuffix(".git"),
                "LLMPERF_PUSH_TOKEN": "secret",
            }
        # Without pauses between tries; status is that of the measuring.
        script = f"sleep() {{ :; }}; status=0\n{self._script}\nexit $status"
        return bash(script, self.clone, environment(**names))

    @property
    def log(self) -> list[str]:
        """The subjects of the main branch, newest first."""
        return git(self.remote, "log", "--format=%s", "main").splitlines()


@pytest.fixture(params=["github", "gitlab"])
def job(
    request: pytest.FixtureRequest, init: Callable[..., int], repository: Path, tmp_path: Path
) -> Job:
    """The job of either service."""
    assert init(request.param) == 0
    if request.param == "github":
        script = step(read_yaml(repository / ACTION), "Commit the baseline")["run"]
    else:
        script = gitlab_script(
            read_yaml(repository / GITLAB), ".llmperf-record", "Commit the baseline"
        )
    made = Job(tmp_path, request.param, script)
    git(made.remote, "config", "receive.advertisePushOptions", "true")
    return made


def test_what_was_recorded_is_committed_and_starts_no_pipeline(job: Job) -> None:
    job.record()
    done = job.commit()
    assert done.returncode == 0, done.stdout
    assert job.log == [f"llmperf: baseline of {job.measured} [skip ci]", "first"]
    changed = git(job.remote, "show", "--format=", "--name-only", "main").splitlines()
    assert changed == ["perf_baselines/a-machine/20260101T000000Z_a.json"]


def test_nothing_recorded_is_nothing_committed(job: Job) -> None:
    done = job.commit()
    assert done.returncode == 0, done.stdout
    assert "Nothing was recorded." in done.stdout
    assert job.log == ["first"]


def test_a_push_of_somebody_else_is_rebased_on(job: Job, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(job.remote), "other")
    mark = tmp_path / "raced"
    race = RACE.format(mark=mark, other=tmp_path / "other")
    job.hook(job.clone / ".git", "pre-push", race)
    job.record()
    done = job.commit()
    assert mark.exists()
    assert done.returncode == 0, done.stdout
    assert job.log == [f"llmperf: baseline of {job.measured} [skip ci]", "other", "first"]
    # The rest of the job's tree is as it was.
    assert (job.clone / "toy.py").read_text() == "# changed by the job\n"


def test_a_protected_branch_fails_with_the_remedy(job: Job) -> None:
    job.hook(job.remote, "pre-receive", PROTECTED)
    job.record()
    done = job.commit()
    assert done.returncode == 1
    assert "The baseline is not stored" in done.stdout
    assert "main can't be pushed to" in done.stdout
    assert job.log == ["first"]


def test_without_a_token_gitlab_says_which_variable_is_missing(job: Job, monkeypatch) -> None:
    if job._service != "gitlab":
        pytest.skip("GitHub's job has a token")
    job._script = f"unset LLMPERF_PUSH_TOKEN\n{job._script}"
    job.record()
    done = job.commit()
    assert done.returncode == 0
    assert "set the CI/CD variable LLMPERF_PUSH_TOKEN" in done.stdout
    assert job.log == ["first"]
