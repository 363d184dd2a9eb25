"""An environment of its own and a folder of wheels for each test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from package_projects import Here, make_here, write


@pytest.fixture(scope="session")
def support(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the plugin imports, for an environment in which it is not installed."""
    folder = tmp_path_factory.mktemp("support")
    names = ["filelock", "packaging", "psutil"]
    for name in names if sys.version_info >= (3, 11) else [*names, "tomli"]:
        (folder / name).symlink_to(Path(str(importlib.import_module(name).__file__)).parent)
    return folder


@pytest.fixture
def here(tmp_path: Path, support: Path) -> Here:
    """An environment for one test."""
    return make_here(tmp_path, support)


@pytest.fixture(scope="module")
def here_kept(tmp_path_factory: pytest.TempPathFactory, support: Path) -> Here:
    """An environment for tests of a module that leave it as it is."""
    return make_here(tmp_path_factory.mktemp("kept"), support)


@pytest.fixture(params=["uv", "pip"])
def here_of_each(tmp_path: Path, support: Path, request: pytest.FixtureRequest) -> Here:
    """An environment for one test, whose installer is uv or pip."""
    return make_here(tmp_path, support, request.param)


@pytest.fixture
def trees(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write two project folders, the first one of this environment."""

    def make(here: Mapping[str, str], there: Mapping[str, str]) -> tuple[Path, Path]:
        return write(tmp_path / "here", here), write(tmp_path / "the other tree", there)

    return make
