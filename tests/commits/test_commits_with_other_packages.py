"""A commit that declares other packages is measured in an environment of its own."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from commit_projects import (
    CONFIG,
    FILES,
    ONE_PAIR,
    SLOW,
    TOKEN_S,
    CommitProject,
    Session,
    make_venv,
)

APPLICATION = FILES["toy.py"].replace(f"TOKEN_S = {TOKEN_S}", "from speed import TOKEN_S")


def make_wheel(folder: Path, version: str, seconds: float) -> Path:
    """Write a wheel of a package ``speed``, whose version decides how fast the application is."""
    info = f"speed-{version}.dist-info"
    files = {
        "speed.py": f"TOKEN_S = {seconds}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: speed\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    folder.mkdir(exist_ok=True)
    wheel = folder / f"speed-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel


@pytest.fixture(scope="module")
def packaged(shared: CommitProject) -> CommitProject:
    """HEAD requires speed 2.0, which is installed, HEAD~1 1.0, HEAD~2 0.5, which has no wheel."""
    wheels = shared.home / "wheels"
    make_wheel(wheels, "1.0", TOKEN_S)
    newest = make_wheel(wheels, "2.0", TOKEN_S * SLOW)
    site = make_venv(shared.home / "venv")
    with zipfile.ZipFile(newest) as archive:
        archive.extractall(site)
    shared.python = shared.home / "venv" / "bin" / "python"
    shared.commit("nowhere", {"toy.py": APPLICATION, "requirements.txt": "speed==0.5\n"})
    shared.commit("fast", {"requirements.txt": "speed==1.0\n"})
    shared.commit("slow", {"requirements.txt": "speed==2.0\n"})
    return shared


def offline(project: CommitProject) -> dict[str, str]:
    """Return variables that make installers find only the wheels of this module."""
    wheels = str(project.home / "wheels")
    return {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": wheels,
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": wheels,
    }


@pytest.fixture(scope="module")
def compared(packaged: CommitProject) -> Session:
    """A session of HEAD against HEAD~1, which is faster by its version of a package."""
    return packaged.against("HEAD~1", environ=offline(packaged))


def test_a_slower_package_is_regressed(compared: Session) -> None:
    assert compared.ret == pytest.ExitCode.TESTS_FAILED
    assert compared.verdicts == {"test_a": "regressed"}
    assert compared.change() > 0.5


def test_the_packages_that_differ_are_named(compared: Session, packaged: CommitProject) -> None:
    base = packaged.git("rev-parse", "HEAD~1")[:12]
    text = f"HEAD~1 ({base}) has its own environment: speed 1.0 (2.0 here)"
    assert text in compared.notes


def test_an_environment_is_made_once(compared: Session, packaged: CommitProject) -> None:
    """The second session runs no installer, which would find nothing to install."""
    nowhere = offline(packaged) | {"PIP_FIND_LINKS": "/nowhere", "UV_FIND_LINKS": "/nowhere"}
    session = packaged.against("HEAD~1", *ONE_PAIR, environ=nowhere)
    assert "creating an environment for the other commit" in compared.all_output
    assert "creating an environment for the other commit" not in session.all_output
    assert session.tests["test_a"]["pairs"] == 1
    assert session.change() > 0.5


def test_packages_that_cannot_be_installed_are_reported_with_the_log(
    packaged: CommitProject,
) -> None:
    session = packaged.against("HEAD~2", environ=offline(packaged))
    assert session.ret == pytest.ExitCode.USAGE_ERROR
    assert session.report is None
    assert "HEAD~2 (" in session.all_output
    assert "speed==0.5" in session.all_output
    assert "likely cause: the package index cannot be reached" in session.all_output
    assert "regressed" not in session.all_output
    assert packaged.checkouts() == []


def test_a_command_of_the_configuration_installs_them(packaged: CommitProject) -> None:
    """HEAD~2's requirement can't be installed, so the user configures a command that works."""
    script = packaged.home / "install.py"
    script.write_text(
        "import pathlib, sysconfig\n"
        "site = pathlib.Path(sysconfig.get_path('purelib'))\n"
        f"(site / 'speed.py').write_text('TOKEN_S = {TOKEN_S}')\n"
    )
    command = f"{{python}} {script}"
    packaged.write({"config.yaml": f"{CONFIG}  base_install: '{command}'\n"})
    session = packaged.against("HEAD~2", *ONE_PAIR, environ=offline(packaged))
    packaged.git("checkout", "--quiet", "config.yaml")
    assert session.tests["test_a"]["pairs"] == 1
    assert session.change() > 0.5
    assert "has its own environment: " in session.notes
