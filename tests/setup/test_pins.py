from __future__ import annotations

import re
import sys

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PIN = re.compile(r'([A-Za-z0-9._-]+)==[0-9][^\s/:@]*( ; python_version (<|>=) "3\.\d+")?$')


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture
def pins(root):
    lines = (root / "constraints.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.fixture
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def test_constraints_hold_names_and_versions_only(pins):
    assert [line for line in pins if not _PIN.fullmatch(line)] == []


def test_everything_the_project_asks_for_is_pinned(pins, project):
    pinned = {_normal(line.split("==")[0]) for line in pins}
    extras = project["optional-dependencies"]
    required = {
        _normal(re.match(r"[A-Za-z0-9._-]+", requirement).group())
        for requirement in [
            *project["dependencies"],
            *extras["dev"],
            *extras["docs"],
            *extras["hub"],
        ]
    }
    assert required - pinned == set()


def test_package_itself_states_lower_bounds_only(project):
    bounded = [r for r in project["dependencies"] if not re.fullmatch(r"[\w.-]+>=[\d.]+", r)]
    assert bounded == []
