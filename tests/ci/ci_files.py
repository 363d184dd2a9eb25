"""The files that ``llmperf ci init`` writes, and their scripts run as a CI runner runs them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from commit_projects import NO_SETTINGS

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ".github/workflows/llmperf.yml"
COMMENT = ".github/workflows/llmperf-comment.yml"
ACTION = ".github/actions/llmperf/action.yml"
GITLAB = ".gitlab/llmperf.yml"


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML file; its key ``on`` is a string, as for GitHub."""
    text = re.sub(r"(?m)^on:", '"on":', file.read_text(encoding="utf-8"))
    data: dict[str, Any] = yaml.safe_load(text)
    return data


def all_steps(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of a workflow's jobs, or of a composite action."""
    if "runs" in data:
        return list(data["runs"]["steps"])
    return [step for job in data["jobs"].values() for step in job["steps"]]


def step(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the step of that name."""
    (named,) = [entry for entry in all_steps(data) if entry.get("name") == name]
    return named


def gitlab_script(data: Mapping[str, Any], job: str, first: str, part: str = "script") -> str:
    """Return the part of a GitLab job's script that begins with a comment of these words."""
    (text,) = [entry for entry in data[job][part] if entry.startswith(f"# {first}")]
    return str(text)


def without_templates(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a GitLab file with templates merged into its jobs, and without hidden jobs."""

    def merged(job: Mapping[str, Any]) -> dict[str, Any]:
        whole: dict[str, Any] = {}
        extends = job.get("extends", [])
        for name in [extends] if isinstance(extends, str) else extends:
            whole = _over(whole, merged(data[name]))
        return _over(whole, {key: value for key, value in job.items() if key != "extends"})

    return {name: merged(job) for name, job in data.items() if not name.startswith(".")}


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings merged as GitLab merges hashes: lists are replaced."""
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = _over(below[key], above[key])
    return both


def environment(**more: str | Path) -> dict[str, str]:
    """Return the variables of a job, without those of this session or its CI."""
    foreign = ("LLMPERF_", "PYTEST_", "COV_", "COVERAGE_", "GIT_", "GITHUB_", "CI", "RUNNER_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, **NO_SETTINGS, **{name: str(value) for name, value in more.items()}}


def bash(
    script: str, cwd: Path, environ: Mapping[str, str], *, timeout: float = 170
) -> subprocess.CompletedProcess[str]:
    """Run a step's script as GitHub's runner does."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=cwd,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
