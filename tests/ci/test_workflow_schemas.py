"""GitHub and GitLab accept the written files, by their schemas and by actionlint."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from ci_files import (
    ACTION,
    COMMENT,
    GITLAB,
    ROOT,
    WORKFLOW,
    all_steps,
    read_yaml,
    without_templates,
)

#: The actionlint package dates from 2022, before GitHub had the context ``vars``.
_NEWER = re.compile(r'undefined variable "vars"')


def by_schema(name: str, *files: Path) -> None:
    """Check files with a schema that check-jsonschema ships."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{name}"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def by_gitlab(*files: Path) -> None:
    """Check GitLab files as they are, and with templates merged into their jobs."""
    whole = []
    for file in files:
        whole.append(file.with_name("whole.yml"))
        whole[-1].write_text(yaml.safe_dump(without_templates(read_yaml(file))))
    by_schema("gitlab-ci", *files, *whole)


def problems(actionlint: Path, *files: Path) -> list[str]:
    """Return the problems that actionlint finds."""
    program = Path(__file__).with_name("actionlint.mjs")
    done = subprocess.run(
        ["node", str(program), str(actionlint), *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    texts = [f"{problem['line']}: {problem['message']}" for problem in json.loads(done.stdout)]
    return [text for text in texts if not _NEWER.search(text)]


def as_workflow(action: dict[str, Any]) -> str:
    """Return a workflow with the steps of a composite action: actionlint reads only workflows."""
    inputs = {name: {"type": "string", **given} for name, given in action["inputs"].items()}
    job = {"runs-on": "ubuntu-latest", "steps": all_steps(action)}
    return yaml.safe_dump(
        {"on": {"workflow_call": {"inputs": inputs}}, "jobs": {"all": job}}, width=1000
    )


def test_schemas_accept_what_is_written(init: Callable[..., int], repository: Path) -> None:
    files: dict[str, list[Path]] = {"github-workflows": [], "github-actions": [], "gitlab-ci": []}
    for number, runners in enumerate([[], ["--runner", "cpu"], ["--runner", "gpu"]]):
        assert init("github", "--force", *runners) == 0
        assert init("gitlab", "--force", *runners) == 0
        kept = repository / f"kept{number}"
        for schema, names in {
            "github-workflows": [WORKFLOW, COMMENT],
            "github-actions": [ACTION],
            "gitlab-ci": [GITLAB],
        }.items():
            for name in names:
                copy = kept / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                files[schema].append(copy)
                copy.write_text((repository / name).read_text())
    by_gitlab(*files.pop("gitlab-ci"))
    by_schema("gitlab-ci", repository / ".gitlab-ci.yml")
    for schema, paths in files.items():
        by_schema(schema, *paths)


def test_the_schemas_find_mistakes(init: Callable[..., int], repository: Path) -> None:
    init("github")
    init("gitlab")
    workflows, actions = (
        partial(by_schema, "github-workflows"),
        partial(by_schema, "github-actions"),
    )
    for check, file, right, wrong in (
        (workflows, WORKFLOW, "timeout-minutes", "timeout-minuets"),
        (actions, ACTION, "using: composite", "using: composed"),
        (by_gitlab, GITLAB, "interruptible: true", "interruptible: perhaps"),
    ):
        path = repository / file
        path.write_text(path.read_text().replace(right, wrong))
        with pytest.raises(AssertionError, match="Schema validation errors"):
            check(path)


def test_actionlint_accepts_the_workflows(
    init: Callable[..., int], repository: Path, actionlint: Path
) -> None:
    assert init("github") == 0
    assert problems(actionlint, repository / WORKFLOW, repository / COMMENT) == []


def test_actionlint_accepts_the_steps_of_the_action(tmp_path: Path, actionlint: Path) -> None:
    file = tmp_path / "action.yml"
    file.write_text(as_workflow(read_yaml(ROOT / "action.yml")))
    assert problems(actionlint, file) == []
    file.write_text(file.read_text().replace("inputs.wait-fit", "inputs.wait-unfit"))
    (problem,) = problems(actionlint, file)
    assert "wait-unfit" in problem


def test_inputs_that_workflows_give_exist(init: Callable[..., int], repository: Path) -> None:
    init("github")
    known = read_yaml(repository / ACTION)["inputs"]
    for step in all_steps(read_yaml(repository / WORKFLOW)):
        if step.get("uses") == "./.github/actions/llmperf":
            assert step["with"].keys() <= known.keys()


def test_the_repository_s_own_action_is_the_written_one(
    init: Callable[..., int], repository: Path
) -> None:
    """``uses: OWNER/REPO@v1`` reads action.yml at the top."""
    init("github")
    assert (ROOT / "action.yml").read_text() == (repository / ACTION).read_text()


def test_permissions_are_minimal(init: Callable[..., int], repository: Path) -> None:
    init("github")
    workflow, comment = read_yaml(repository / WORKFLOW), read_yaml(repository / COMMENT)
    assert workflow["permissions"] == {"contents": "read"}
    writing = {name for name, job in workflow["jobs"].items() if "permissions" in job}
    assert writing == {"record-cpu", "record-gpu"}
    for name, job in workflow["jobs"].items():
        checkout = job["steps"][0]["with"]
        # Code of a branch under review gets no token at all.
        assert (name in writing) == ("persist-credentials" not in checkout)
    assert "pull_request_target" not in (repository / WORKFLOW).read_text()
    assert comment["permissions"] == {}
    assert comment["jobs"]["comment"]["permissions"] == {
        "actions": "read",
        "pull-requests": "write",
    }


def test_actions_are_pinned_by_major_and_scripts_take_no_expression(
    init: Callable[..., int], repository: Path
) -> None:
    init("github")
    for file in (WORKFLOW, COMMENT, ACTION):
        for step in all_steps(read_yaml(repository / file)):
            uses = step.get("uses", "./")
            assert uses.startswith("./") or re.fullmatch(r"actions/[\w/-]+@v\d+", uses)
            script = step.get("run", "") + step.get("with", {}).get("script", "")
            assert "${{" not in script


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_scripts_are_read_by_their_shell(
    init: Callable[..., int], repository: Path, shell: str
) -> None:
    init("github")
    init("gitlab")
    if shell == "bash":
        files = [read_yaml(repository / name) for name in (WORKFLOW, COMMENT, ACTION)]
        scripts = [step["run"] for data in files for step in all_steps(data) if "run" in step]
    else:  # an image need not have bash
        jobs = read_yaml(repository / GITLAB).values()
        parts = ("before_script", "script", "after_script")
        scripts = [text for job in jobs for part in parts for text in job.get(part, [])]
    assert len(scripts) >= 5
    for script in scripts:
        done = subprocess.run([shell, "-n", "-c", script], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
