"""An environment of its own and a folder of wheels for each test."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from package_projects import Here, make_environment, make_wheel


@pytest.fixture(scope="session")
def support(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the plugin imports, for an environment in which it is not installed."""
    folder = tmp_path_factory.mktemp("support")
    names = ["filelock", "packaging", "psutil"]
    for name in names if sys.version_info >= (3, 11) else [*names, "tomli"]:
        (folder / name).symlink_to(Path(str(importlib.import_module(name).__file__)).parent)
    return folder


def make_wheels(folder: Path) -> Path:
    """Write wheels that installers find: toy 1.0 and 2.0 need dep, toy 2.0 also helper."""
    make_wheel(folder, "toy", "1.0", ["dep"])
    make_wheel(folder, "toy", "2.0", ["dep", "helper"])
    make_wheel(folder, "dep", "1.0")
    make_wheel(folder, "dep", "1.5")
    make_wheel(folder, "helper", "1.0")
    make_wheel(folder, "free", "1.0")
    return folder


def make_here(folder: Path, support: Path) -> Here:
    """Make an environment with toy 2.0, dep 1.0, helper, and free, which nobody declares."""
    wheels = make_wheels(folder / "wheels")
    made = Here(make_environment(folder / "environment with space"), wheels, support)
    made.unpack("toy-2.0", "dep-1.0", "helper-1.0", "free-1.0")
    return made


@pytest.fixture
def here(tmp_path: Path, support: Path) -> Here:
    """An environment for one test."""
    return make_here(tmp_path, support)


@pytest.fixture(scope="module")
def here_kept(tmp_path_factory: pytest.TempPathFactory, support: Path) -> Here:
    """An environment for tests of a module that leave it as it is."""
    return make_here(tmp_path_factory.mktemp("kept"), support)
