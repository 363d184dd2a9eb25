"""Trees that share this environment: they declare the same, or need the same packages."""

from __future__ import annotations

import os

import pytest
from package_projects import make_source, pyproject, write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="looks into venvs laid out as on POSIX")
PLAIN = {"pyproject.toml": pyproject(["toy==2.0", "dep>=1,<3"])}
LINTED = pyproject(["toy==2.0", "dep>=1,<3"], more="[tool.ruff]\nline-length = 99\n")


def test_trees_that_declare_the_same_share_this_environment(shared_environment, trees, tmp_path):
    outcome = shared_environment.ask(*trees(PLAIN, PLAIN), tmp_path / "cache")
    assert outcome["python"] == str(shared_environment.python)
    assert outcome["shared"]
    assert outcome["note"] == "shared: both commits declare the same dependencies"
    assert not (tmp_path / "cache").exists()


def test_a_tree_that_declares_nothing_shares_this_environment(shared_environment, trees, tmp_path):
    outcome = shared_environment.ask(
        *trees({"requirements.txt": "toy"}, {"README": ""}), tmp_path / "cache"
    )
    assert outcome["note"] == "shared: the other commit declares no dependencies"


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (PLAIN, {"pyproject.toml": "# why\n" + LINTED.replace('version = "1"', 'version = "2"')}),
        ({"requirements.txt": "toy\ndep"}, {"requirements.txt": "# why\ndep\ntoy  # here\n"}),
        ({"requirements.txt": "toy"}, {"requirements.txt": "toy", "setup.cfg": ""}),
    ],
    ids=["version, comment and linter", "comments and order", "an empty file"],
)
def test_what_declares_nothing_else_asks_no_installer(
    shared_environment, trees, tmp_path, here, there
):
    if "setup.cfg" in there:
        here = {**here, "setup.cfg": ""}
    outcome = shared_environment.ask(*trees(here, there), tmp_path / "cache")
    assert outcome["shared"]
    assert outcome["said"] == []


def test_trees_that_need_the_same_packages_share_this_environment(
    shared_environment, trees, tmp_path
):
    there = {"pyproject.toml": pyproject(["Toy>=1", "dep"])}
    outcome = shared_environment.ask(*trees(PLAIN, there), tmp_path / "cache")
    assert outcome["note"] == "shared: both need the same packages"
    assert outcome["said"] == []


def test_so_do_trees_of_which_only_a_build_backend_knows_it(environment_per_installer, tmp_path):
    for name, changed in (("here", ""), ("there", "# another")):
        make_source(tmp_path / name, "project", "1", requires=["toy"])
        write(tmp_path / name, {"setup.py": changed})
    trees = tmp_path / "here", tmp_path / "there"
    outcome = environment_per_installer.ask(*trees, tmp_path / "cache")
    assert outcome["note"] == "shared: both need the same packages"
    assert outcome["said"]
    assert environment_per_installer.ask(*trees, tmp_path / "cache") == outcome | {"said": []}
    assert not [path for path in (tmp_path / "cache" / "environments").iterdir() if path.is_dir()]


def test_what_this_environment_drifted_from_in_both_trees_stays(
    shared_environment, trees, tmp_path
):
    here, there = (
        {"requirements.txt": "toy==1.0\nfree==1.0"},
        {"requirements.txt": "toy==1.0\nfree"},
    )
    outcome = shared_environment.ask(*trees(here, there), tmp_path / "cache")
    assert outcome["note"] == "shared: both need the same packages"
