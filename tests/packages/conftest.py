"""An environment of its own and a folder of wheels for each test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from package_projects import PackageEnvironment, make_package_environment, write


@pytest.fixture(scope="session")
def support(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the plugin's dependencies, for an environment without the plugin."""
    folder = tmp_path_factory.mktemp("support")
    names = ["filelock", "packaging", "psutil"]
    for name in names if sys.version_info >= (3, 11) else [*names, "tomli"]:
        (folder / name).symlink_to(Path(str(importlib.import_module(name).__file__)).parent)
    return folder


@pytest.fixture
def here(tmp_path: Path, support: Path) -> PackageEnvironment:
    """An environment for one test."""
    return make_package_environment(tmp_path, support)


@pytest.fixture(scope="module")
def shared_environment(
    tmp_path_factory: pytest.TempPathFactory, support: Path
) -> PackageEnvironment:
    """An environment shared by those tests of a module that leave it unchanged."""
    return make_package_environment(tmp_path_factory.mktemp("kept"), support)


@pytest.fixture(params=["uv", "pip"])
def environment_per_installer(
    tmp_path: Path, support: Path, request: pytest.FixtureRequest
) -> PackageEnvironment:
    """An environment for one test, which runs once with uv and once with pip."""
    return make_package_environment(tmp_path, support, request.param)


@pytest.fixture
def trees(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Return a function that writes two project folders: this environment's and the other."""

    def make(here: Mapping[str, str], there: Mapping[str, str]) -> tuple[Path, Path]:
        return write(tmp_path / "here", here), write(tmp_path / "the other tree", there)

    return make
