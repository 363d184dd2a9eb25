"""The comment on a pull request: where it goes, and that a report is shown as text only."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ci_files import COMMENT, all_steps, read_yaml, step

from pytest_llmperf.report.markdown import code

SHA = "0123456789abcdef0123456789abcdef01234567"
RUN = {
    "conclusion": "failure",
    "head_sha": SHA,
    "head_branch": "faster",
    "html_url": "https://example.org/run",
    "head_repository": {"full_name": "them/fork", "owner": {"login": "them"}},
}
PULL = {"number": 7, "head": {"sha": SHA, "repo": {"full_name": "them/fork"}}}


@pytest.fixture
def comment(
    init: Callable[..., int], repository: Path, node: str, tmp_path: Path
) -> Callable[..., list[list[Any]]]:
    """Run the script of the workflow, and return what it asks GitHub for."""
    init("github")
    script = tmp_path / "script.js"
    script.write_text(step(read_yaml(repository / COMMENT), "Comment")["with"]["script"])

    def run(*, pulls=(PULL,), comments=(), **changed: Any) -> list[list[Any]]:
        situation = {"run": RUN | changed, "pulls": list(pulls), "comments": list(comments)}
        program = Path(__file__).with_name("comment.mjs")
        done = subprocess.run(
            [node, str(program), str(script), json.dumps(situation)],
            env={**os.environ, "REPORTS": str(tmp_path / "reports")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    return run


def write_report(tmp_path: Path, text: str, name: str = "cpu") -> Path:
    file = tmp_path / "reports" / f"llmperf-{name}" / "comment.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_fork_s_pull_request_gets_its_report(comment, tmp_path: Path) -> None:
    write_report(tmp_path, "6.6% slower")
    write_report(tmp_path, "as fast", "gpu")
    query, listed, (name, created) = comment()
    assert query == [
        "pulls",
        {"owner": "us", "repo": "project", "state": "open", "head": "them:faster"},
    ]
    assert listed[0] == "listComments"
    assert (name, created["issue_number"]) == ("create", 7)
    assert "**llmperf: failure** for 0123456789ab" in created["body"]
    assert created["body"].index("6.6% slower") < created["body"].index("as fast")


@pytest.mark.parametrize(
    "pulls",
    [
        [],
        # The branch was pushed to meanwhile, or is another fork's.
        [{"number": 8, "head": {"sha": "f" * 40, "repo": {"full_name": "them/fork"}}}],
        [{"number": 8, "head": {"sha": SHA, "repo": {"full_name": "them/another"}}}],
        [{"number": 8, "head": {"sha": SHA, "repo": None}}],
    ],
)
def test_no_other_pull_request_is_commented_on(comment, tmp_path: Path, pulls) -> None:
    write_report(tmp_path, "text")
    assert [name for name, _ in comment(pulls=pulls)] == ["pulls", "info"]


def test_a_fork_that_is_gone_is_no_error(comment) -> None:
    assert comment(head_repository=None) == [["info", "The fork is gone."]]


def test_one_comment_is_kept_up_to_date(comment, tmp_path: Path) -> None:
    write_report(tmp_path, "text")
    bot, person = {"type": "Bot"}, {"type": "User"}
    comments = [
        {"id": 1, "user": person, "body": "<!-- llmperf --> not ours"},
        {"id": 2, "user": bot, "body": "another bot"},
        {"id": 3, "user": bot, "body": "<!-- llmperf -->\n\nold"},
    ]
    *_, (name, updated) = comment(comments=comments)
    assert (name, updated["comment_id"]) == ("update", 3)


def test_a_report_is_data(comment, tmp_path: Path) -> None:
    """It comes from the branch's own job, so it may hold anything."""
    hostile = '@everyone <!-- hidden -->"; rm -rf / #\n`${process.exit(1)}`\n$(touch pwned)'
    write_report(tmp_path, hostile + "@" * 100_000)
    write_report(tmp_path, "@" * 100_000, "gpu")
    *_, (_, created) = comment()
    body = created["body"]
    assert "@everyone" not in body
    assert body.count("<!--") == 1
    assert "`${process.exit(1)}`" in body
    assert len(body) < 65_536
    assert not Path("pwned").exists()


def test_a_report_s_own_names_are_shown_whole(comment, tmp_path: Path) -> None:
    """Reports separate an at sign from a name by an empty comment."""
    write_report(tmp_path, code("tests/t.py::test_x[tg128@d4096]"))
    *_, (_, created) = comment()
    assert "tg128&#64;<!-- -->d4096" in created["body"]


def test_signs_that_grow_leave_the_comment_short_enough(comment, tmp_path: Path) -> None:
    write_report(tmp_path, "@" * 30_000)
    write_report(tmp_path, "<!--" * 7_500, "gpu")
    *_, (_, created) = comment()
    assert len(created["body"]) < 65_536


def test_a_link_is_not_followed(comment, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the token")
    file = write_report(tmp_path, "")
    file.unlink()
    file.symlink_to(secret)
    *_, (_, created) = comment()
    assert "the token" not in created["body"]
    assert "It left no report" in created["body"]


@pytest.mark.parametrize("runners", [["cpu"], ["gpu"], ["cpu", "gpu"]])
def test_each_report_is_fetched_by_its_name(
    init: Callable[..., int], repository: Path, runners: list[str]
) -> None:
    """With a pattern, a single match would not get a folder of its own."""
    init("github", *(word for runner in runners for word in ("--runner", runner)))
    steps = all_steps(read_yaml(repository / COMMENT))
    fetched = [entry for entry in steps if entry["uses"].startswith("actions/download-artifact@")]
    assert [(entry["with"]["name"], entry["with"]["path"]) for entry in fetched] == [
        (f"llmperf-{runner}", "${{ runner.temp }}/reports/llmperf-" + runner) for runner in runners
    ]
    assert all(entry["continue-on-error"] for entry in fetched)


def test_the_number_of_a_pull_request_is_not_taken_from_the_report(comment, tmp_path) -> None:
    write_report(tmp_path, "text").with_name("number").write_text("99")
    *_, (_, created) = comment()
    assert created["issue_number"] == 7
