from __future__ import annotations

import json
import zipfile

import pytest
from package_projects import make_wheel
from packaging.requirements import Requirement

from pytest_llmperf.packages.installed import Installed

GIT = {"vcs": "git", "commit_id": "c0ffee", "requested_revision": "feature/x"}


@pytest.fixture
def installed(tmp_path):
    """A folder that holds toy, installed from an address."""

    def make(**direct_url):
        with zipfile.ZipFile(make_wheel(tmp_path / "wheels", "toy", "1")) as archive:
            archive.extractall(tmp_path / "site")
        file = tmp_path / "site" / "toy-1.dist-info" / "direct_url.json"
        file.write_text(json.dumps(direct_url))
        return Installed([tmp_path / "site"])

    return make


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("git+https://example.com/toy@feature/x", True),
        ("git+https://example.com/toy@c0ffee", True),
        ("git+https://example.com/toy@other", False),
        ("git+https://example.com/toy", False),
        ("git+https://example.com/elsewhere@c0ffee", False),
        ("https://example.com/toy", False),
    ],
)
def test_a_repository_and_its_revision_are_compared(installed, address, expected):
    found = installed(url="https://example.com/toy", vcs_info=GIT)
    assert found.satisfies(Requirement(f"toy @ {address}")) is expected


def test_the_name_before_a_host_is_no_revision(installed):
    found = installed(url="ssh://git@example.com/toy", vcs_info={"vcs": "git", "commit_id": "c"})
    assert found.satisfies(Requirement("toy @ git+ssh://git@example.com/toy"))


def test_an_archive_is_compared_by_its_address(installed):
    found = installed(url="https://example.com/toy.whl", archive_info={})
    assert found.satisfies(Requirement("toy @ https://example.com/toy.whl#sha256=0"))
    assert not found.satisfies(Requirement("toy @ https://example.com/other.whl"))


def test_what_came_from_an_index_meets_no_address(installed):
    assert not installed().satisfies(Requirement("toy @ https://example.com/toy.whl"))


def test_broken_leftovers_of_installers_are_no_distributions(installed, tmp_path):
    (tmp_path / "site" / "broken-1.dist-info").mkdir(parents=True)
    assert list(installed()) == ["toy"]
