"""Which ``config.yaml`` is read: that of pytest's project, from any current folder."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from _pytest.config.findpaths import determine_setup

from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.load import load_config
from pytest_llmperf.config.project import ProjectFolders

OURS = "perf:\n  processes: 2\n"


def write(top: Path, *files: str) -> None:
    """Write files, given as ``path`` or ``path=content``, below a folder."""
    for entry in files:
        name, _, content = entry.partition("=")
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(content)


def as_pytest(started: Path, tests: list[str]) -> tuple[Path, Path]:
    """Return the root folder and the settings file's folder that pytest itself finds."""
    asked = {
        "inifile": None,
        "override_ini": None,
        "args": [str(started / test) for test in tests],
        "rootdir_cmd_arg": None,
        "invocation_dir": started,
    }
    known = inspect.signature(determine_setup).parameters
    root, ini, *_ = determine_setup(**{k: v for k, v in asked.items() if k in known})
    return root, ini.parent if ini is not None else root


@pytest.mark.parametrize("started", [".", "sub", "sub/deep"])
@pytest.mark.parametrize("tests", [[], ["{top}/sub/deep/test_a.py::test_x"], ["{top}/sub", "no"]])
@pytest.mark.parametrize(
    "files",
    [
        ["pytest.ini"],
        ["sub/tox.ini=[pytest]\n", "pytest.ini"],
        ["sub/tox.ini=[tox]\n", "setup.cfg=[tool:pytest]\n"],
        ["pyproject.toml=[tool.pytest.ini_options]\nminversion = '8'\n"],
        ["sub/pyproject.toml=[project]\nname = 'a'\n", "pytest.ini"],
        ["sub/pyproject.toml=[tool.pytest-watcher]\nnow = true\n", "setup.py"],
        ["sub/setup.py"],
        [],
    ],
    ids=" ".join,
)
def test_the_project_is_the_one_that_pytest_finds(
    tmp_path: Path, files: list[str], started: str, tests: list[str]
) -> None:
    write(tmp_path, "sub/deep/test_a.py", *files)
    arguments = [test.format(top=tmp_path) for test in tests]
    folders = ProjectFolders.around(tmp_path / started, arguments)
    assert (folders.root, folders.settings) == as_pytest(tmp_path / started, arguments)


def test_beside_pytests_settings_comes_before_the_root_folder_and_the_current_one(
    tmp_path: Path,
) -> None:
    folders = ProjectFolders(tmp_path / "root", tmp_path / "settings", tmp_path / "started")
    assert folders.config_file() is None
    for name in ("started", "root", "settings"):
        write(tmp_path, f"{name}/config.yaml={OURS}")
        assert folders.config_file() == tmp_path / name / "config.yaml"
    loaded = load_config(None, folders, {})
    assert loaded.config.perf.processes == 2
    assert loaded.baselines_dir == tmp_path / "settings" / "perf_baselines"


def test_above_the_root_folder_only_our_own_file_in_the_same_repository_counts(
    tmp_path: Path,
) -> None:
    write(tmp_path, f"config.yaml={OURS}", "top/sub/deep/test_a.py")
    folders = ProjectFolders.around(tmp_path / "top" / "sub" / "deep")
    assert folders.config_file() is None
    write(tmp_path / "top", ".git/HEAD", "config.yaml=services: {}\n")
    assert folders.config_file() is None
    write(tmp_path / "top", f"config.yaml={OURS}")
    assert folders.config_file() == tmp_path / "top" / "config.yaml"


def test_the_line_about_the_file_names_it_from_where_one_stands(tmp_path: Path) -> None:
    write(tmp_path, "pytest.ini", "sub/test_a.py")
    folders = ProjectFolders.around(tmp_path / "sub")
    expected = f"no config.yaml in {tmp_path} or {tmp_path / 'sub'}: defaults"
    assert folders.describe(folders.config_file()) == expected
    file = tmp_path / "config.yaml"
    assert folders.describe(file) == str(file)
    assert ProjectFolders.around(tmp_path).describe(file) == "config.yaml"


def test_what_is_wrong_is_named_with_the_file_that_was_found(tmp_path: Path) -> None:
    write(tmp_path, "ini/config.yaml=llm:\n  n_batsh: 1\n", "root/test_a.py")
    folders = ProjectFolders(tmp_path / "root", tmp_path / "ini", tmp_path / "root")
    with pytest.raises(ConfigError) as caught:
        load_config(None, folders, {})
    assert str(caught.value).startswith(f"{tmp_path / 'ini' / 'config.yaml'}:2: llm.n_batsh:")
