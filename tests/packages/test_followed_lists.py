"""The lists of requirements that decide the contents of a tree's environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from package_projects import make_source, pyproject, uv_path, versions, write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="looks into venvs laid out as on POSIX")


@pytest.fixture
def toy_version(shared_environment, trees, tmp_path):
    """A function that returns the version of toy for the second tree; 2.0 is installed here."""

    def ask(here, there):
        outcome = shared_environment.ask(*trees(here, there), tmp_path / "cache")
        assert "error" not in outcome, outcome["error"]
        return "2.0" if outcome["shared"] else versions(outcome["python"]).get("toy")

    return ask


def lists(text: str) -> list[dict[str, str]]:
    """Return two trees with this text in pyproject.toml, each with another version of toy."""
    return [{"pyproject.toml": pyproject(more=text.format(n))} for n in ("2.0", "1.0")]


@pytest.mark.parametrize(
    "trees_",
    [
        lists('[project.optional-dependencies]\ndev = ["toy=={}"]\n'),
        lists('[project.optional-dependencies]\nall = ["project[dev]"]\ndev = ["toy=={}"]\n'),
        lists('[dependency-groups]\nmain = ["toy=={}"]\ndev = [{{include-group = "main"}}]\n'),
        [
            {"requirements.txt": "-r all/base.txt", "all/base.txt": f"toy=={n}"}
            for n in ("2.0", "1.0")
        ],
        [{"requirements.txt": "toy", "constraints.txt": f"toy=={n}"} for n in ("2.0", "1.0")],
        [
            {"requirements.txt": "toy\n-c limits.txt", "limits.txt": f"toy=={n}"}
            for n in ("2.0", "1.0")
        ],
        [{"requirements.txt": "toy==2.0"}, {"requirements/base.txt": "toy==1.0"}],
        [
            {"requirements-cpu.txt": "toy==2.0", "requirements-gpu.txt": "toy==3.0"},
            {"requirements-cpu.txt": "toy==1.0", "requirements-gpu.txt": "toy==1.5"},
        ],
        [{"requirements.txt": "toy==1.9\nfree"}, {"requirements.txt": "toy==1.0\nfree"}],
    ],
    ids=[
        *("extra", "extra of the project itself", "included group", "included file"),
        *("constraints", "included constraints", "a file only there", "the file that is met"),
        "a file that this environment drifted from",
    ],
)
def test_a_list_that_is_followed_here_is_followed_there(toy_version, trees_):
    assert toy_version(*trees_) == "1.0"


@pytest.mark.parametrize(
    "trees_",
    [
        [
            {
                "pyproject.toml": pyproject(
                    more=f'[project.optional-dependencies]\nx = ["none=={n}"]'
                )
            }
            for n in (2, 1)
        ],
        [
            {"pyproject.toml": pyproject(["toy"])},
            {"pyproject.toml": pyproject(["toy"], more='[dependency-groups]\nnew = ["none"]')},
        ],
        [{"requirements.txt": "toy"}, {"requirements.txt": "none; sys_platform == 'none'\ntoy"}],
        [
            {"requirements.txt": "toy", "environment.yml": "a"},
            {"requirements.txt": "toy", "environment.yml": "b"},
        ],
        [{"requirements.txt": "toy"}, {"requirements.txt": "toy", "uv.lock": "version = 1"}],
    ],
    ids=[
        *("group that is not installed", "group only there", "another system"),
        *("Conda's file beside a list", "lock only there"),
    ],
)
def test_other_lists_are_not(toy_version, trees_):
    assert toy_version(*trees_) == "2.0"


def test_what_only_a_build_backend_knows_is_asked_of_it(environment_per_installer, tmp_path):
    make_source(tmp_path / "here", "project", "1", requires=["toy==2.0"])
    make_source(tmp_path / "there", "project", "1", requires=["toy==1.0"])
    write(tmp_path / "there", {"setup.py": "# what this reads decides"})
    broken = "raise SystemExit('a build in the tree of the user')"
    write(tmp_path / "here", {"backend.py": broken, "requirements.txt": "-e .\nfree"})
    outcome = environment_per_installer.ask(
        tmp_path / "here", tmp_path / "there", tmp_path / "cache"
    )
    assert versions(outcome["python"]).get("toy") == "1.0"
    assert "project" not in versions(outcome["python"])


def lock(folder: Path, wheels: Path, environ: dict[str, str], version: str) -> None:
    """Write a project with a uv.lock that pins toy."""
    write(folder, {"pyproject.toml": pyproject(["toy"], more='requires-python = ">=3.10"\n')})
    options = [f"--find-links={wheels}", "--no-index", f"--upgrade-package=toy=={version}"]
    subprocess.run(
        ["uv", "lock", "--quiet", *options], cwd=folder, env=environ, check=True, timeout=60
    )


def test_a_uv_lock_pins_what_both_trees_install(shared_environment, tmp_path):
    environ = shared_environment.environ | {"PATH": uv_path()}
    for name, version in (("here", "2.0"), ("there", "1.0")):
        lock(tmp_path / name, shared_environment.wheels, environ, version)
    trees = tmp_path / "here", tmp_path / "there"
    before = sorted(path.name for path in trees[0].iterdir())
    outcome = shared_environment.ask(*trees, tmp_path / "cache")
    assert outcome["note"].startswith("own environment: ")
    assert versions(outcome["python"])["toy"] == "1.0"
    assert sorted(path.name for path in trees[0].iterdir()) == before
    error = shared_environment.ask(*trees, tmp_path / "another", PATH=os.defpath)["error"]
    assert error.startswith("uv.lock differs between the two commits, and uv is not on PATH")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pyproject.toml": "[tool.poetry.dependencies]\ntoy = '*'"}, "names no build backend"),
        ({"Pipfile.lock": "{}"}, "Pipfile.lock differs between the two commits, and neither uv"),
        ({"environment.yml": "dependencies: [toy]"}, "neither uv nor pip installs from it"),
        ({"pyproject.toml": "[project\nname = 1"}, "pyproject.toml:1: not TOML"),
    ],
    ids=["Poetry", "Pipenv", "Conda", "broken"],
)
def test_what_no_installer_understands_is_refused_with_the_way_out(
    shared_environment, trees, tmp_path, files, said
):
    error = shared_environment.ask(*trees({"README": ""}, files), tmp_path / "cache")["error"]
    assert said in error
    way_out = "perf: {base_install: "
    assert way_out in error or "correct the file" in error


def test_what_no_installer_understands_is_no_trouble_where_it_is_equal(toy_version):
    files = {"poetry.lock": "x", "Pipfile": "y"}
    assert toy_version(files, files | {"requirements.txt": "toy==1.0"}) == "1.0"


def test_options_of_requirements_files_reach_the_installer(
    environment_per_installer, trees, tmp_path
):
    there = {"requirements.txt": "--find-links ./more\ntoy==1.0"}
    trees_ = trees({"requirements.txt": "toy==2.0"}, there)
    (trees_[1] / "more").mkdir()
    wheel = environment_per_installer.wheels / "toy-1.0-py3-none-any.whl"
    wheel.rename(trees_[1] / "more" / wheel.name)
    outcome = environment_per_installer.ask(*trees_, tmp_path / "cache")
    assert versions(outcome["python"])["toy"] == "1.0"
