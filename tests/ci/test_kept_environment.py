"""An environment restored from a cache keeps its identity, so that kept evidence counts."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ci_files import ACTION, GITLAB, ROOT, bash, environment, gitlab_script, read_yaml, step

from pytest_llmperf.packages.fingerprint import fingerprint


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment with one package, as an installer leaves it."""
    site = tmp_path / "venv" / "lib" / "site-packages"
    info = site / "toy-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "toy.py").write_text("")
    (info / "METADATA").write_text("Name: toy\n")
    (info / "RECORD").write_text("toy.py,,\ntoy-1.0.dist-info/METADATA,,\n")
    return tmp_path / "venv"


def identity(venv: Path) -> str:
    return fingerprint("3", [str(venv / "lib" / "site-packages")], ())


def restored_from_cache(archive: str, venv: Path) -> Path:
    """Return the environment as a cache with this archive format restores it."""
    file, back = venv.with_suffix(".tar"), venv.parent / "back"
    back.mkdir()
    for command in (
        ["tar", f"--format={archive}", "-cf", str(file), "-C", str(venv.parent), venv.name],
        ["tar", "-xf", str(file), "-C", str(back)],
    ):
        subprocess.run(command, check=True)
    return back / venv.name


def test_github_s_archive_keeps_it(venv: Path) -> None:
    """The toolkit calls ``tar --posix``."""
    before = identity(venv)
    assert identity(restored_from_cache("posix", venv)) == before
    (venv / "lib" / "site-packages" / "toy.py").write_text("")
    assert identity(venv) != before


def test_gitlab_s_archive_with_whole_seconds_keeps_it(
    init: Callable[..., int], repository: Path, venv: Path
) -> None:
    init("gitlab")
    install = gitlab_script(read_yaml(repository / GITLAB), ".llmperf", "Install", "before_script")
    (touch,) = re.findall(r'find "\$venv".*', install)
    done = bash(touch, repository, environment(venv=venv))
    assert done.returncode == 0, done.stdout
    assert identity(restored_from_cache("ustar", venv)) == identity(venv)


#: A ``python`` that makes empty environments, and prints any other arguments.
PYTHON = """\
#!/bin/bash
if [[ $2 == venv ]]; then mkdir -p "$4/bin" && touch "$4/bin/activate"; else echo "$*"; fi
"""


@pytest.mark.parametrize("own", [True, False], ids=["of the repository", "copied"])
def test_an_action_installs_the_plugin_that_it_comes_with(tmp_path: Path, own: bool) -> None:
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    action, project = tmp_path / "an action", tmp_path / "project"
    action.mkdir()
    project.mkdir()
    if own:
        (action / "pyproject.toml").write_text("[project]")
    (project / "requirements.txt").write_text("")
    names = environment(
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        GITHUB_OUTPUT=tmp_path / "output",
        GITHUB_ACTION_PATH=action,
        LLMPERF_VENV=tmp_path / "venv",
        INSTALL="",
    )
    done = bash(step(read_yaml(ROOT / "action.yml"), "Install")["run"], project, names)
    plugin = action if own else "pytest-llmperf"
    assert done.stdout == f"-m pip install {plugin} -r requirements.txt\n"


def test_a_plugin_that_changed_gets_another_environment(tmp_path: Path) -> None:
    action = tmp_path / "an action"
    (action / "pytest_llmperf").mkdir(parents=True)
    module = action / "pytest_llmperf" / "module.py"

    def venv() -> str:
        variables = tmp_path / "variables"
        names = environment(
            GITHUB_OUTPUT=tmp_path / "output",
            GITHUB_ENV=variables,
            GITHUB_WORKSPACE=tmp_path,
            GITHUB_ACTION_PATH=action,
            RUNNER_TEMP=tmp_path / "temporary",
            **dict.fromkeys(
                ("NAME", "INSTALL", "CMAKE_ARGS", "PYTHON_VERSION", "SYSTEM", "DEPENDENCIES"), ""
            ),
        )
        done = bash(step(read_yaml(ROOT / "action.yml"), "Choose folders")["run"], tmp_path, names)
        assert done.returncode == 0, done.stdout
        (folder,) = re.findall("LLMPERF_VENV=(.*)", variables.read_text())
        variables.unlink()
        return str(folder)

    copied = venv()
    (action / "pyproject.toml").write_text("[project]")
    module.write_text("")
    first = venv()
    module.with_suffix(".pyc").write_text("compiled")
    assert venv() == first != copied
    module.write_text("changed = True")
    assert venv() != first


def test_a_complete_environment_is_not_installed_again(
    init: Callable[..., int], repository: Path, tmp_path: Path
) -> None:
    init("github")
    install = step(read_yaml(repository / ACTION), "Install")["run"]
    output, venv = tmp_path / "output", tmp_path / "venv"
    output.write_text("")
    names = environment(
        GITHUB_OUTPUT=output, LLMPERF_VENV=venv, CMAKE_ARGS="", INSTALL='touch "$VIRTUAL_ENV/made"'
    )
    assert bash(install, repository, names).returncode == 0
    assert output.read_text() == "installed=true\n"
    (venv / "made").unlink()
    assert bash(install, repository, names).returncode == 0
    assert not (venv / "made").exists()
    # An environment whose installation failed is made again.
    (venv / "complete").unlink()
    failed = bash(install, repository, names | {"INSTALL": "false"})
    assert failed.returncode != 0
    assert not (venv / "complete").exists()
    assert bash(install, repository, names).returncode == 0
    assert (venv / "complete").exists()
