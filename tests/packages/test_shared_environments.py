"""When both trees share this environment: they declare the same, or need the same packages."""

from __future__ import annotations

import os

import pytest
from package_projects import pyproject

pytestmark = pytest.mark.skipif(os.name != "posix", reason="looks into venvs laid out as on POSIX")
PLAIN = {"pyproject.toml": pyproject(["toy==2.0", "dep>=1,<3"])}
LINTED = pyproject(["toy==2.0", "dep>=1,<3"], more="[tool.ruff]\nline-length = 99\n")


def test_trees_that_declare_the_same_share_this_environment(here_kept, trees, tmp_path):
    found = here_kept.ask(*trees(PLAIN, PLAIN), tmp_path / "cache")
    assert found["python"] == str(here_kept.python)
    assert found["shared"]
    assert found["note"] == "shared: both declare the same"
    assert not (tmp_path / "cache").exists()


def test_a_tree_that_declares_nothing_shares_this_environment(here_kept, trees, tmp_path):
    found = here_kept.ask(*trees({"requirements.txt": "toy"}, {"README": ""}), tmp_path / "cache")
    assert found["note"] == "shared: the other commit declares nothing"


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (PLAIN, {"pyproject.toml": "# why\n" + LINTED.replace('version = "1"', 'version = "2"')}),
        ({"requirements.txt": "toy\ndep"}, {"requirements.txt": "# why\ndep\ntoy  # here\n"}),
        ({"requirements.txt": "toy"}, {"requirements.txt": "toy", "setup.cfg": ""}),
    ],
    ids=["version, comment and linter", "comments and order", "an empty file"],
)
def test_what_declares_nothing_else_is_not_resolved(here_kept, trees, tmp_path, here, there):
    if "setup.cfg" in there:
        here = {**here, "setup.cfg": ""}
    found = here_kept.ask(*trees(here, there), tmp_path / "cache")
    assert found["note"] == "shared: both declare the same"
    assert found["said"] == []


def test_trees_that_need_the_same_packages_share_this_environment(here_of_each, trees, tmp_path):
    there = {"pyproject.toml": pyproject(["Toy>=1", "dep"])}
    found = here_of_each.ask(*trees(PLAIN, there), tmp_path / "cache")
    assert found["note"] == "shared: both need the same packages"
    assert found["said"][0].startswith(
        "the other commit declares other packages (pyproject.toml): finding out with "
    )
    again = here_of_each.ask(*trees(PLAIN, there), tmp_path / "cache")
    assert again == found | {"said": []}


def test_what_this_environment_drifted_from_in_both_trees_stays(here_kept, trees, tmp_path):
    here, there = (
        {"requirements.txt": "toy==1.0\nfree==1.0"},
        {"requirements.txt": "toy==1.0\nfree"},
    )
    found = here_kept.ask(*trees(here, there), tmp_path / "cache")
    assert found["note"] == "shared: both need the same packages"
