"""Which changes make a bisection another search, for which earlier sessions don't count."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_histories import history

from pytest_llmperf.bisect.project import find_project
from pytest_llmperf.packages import fingerprint
from pytest_llmperf.packages.installed import Installed


def key(root: Path) -> list[object]:
    return find_project(root, ["tests"]).key()


@pytest.fixture
def project(root: Path) -> Path:
    history(root, "fs")
    return root


@pytest.mark.parametrize(
    "name",
    ["LLMPERF_LLM__N_BATCH", "GGML_VK_VISIBLE_DEVICES", "OMP_PROC_BIND", "MKL_NUM_THREADS"],
)
def test_a_variable_that_configures_plugin_or_engine_does(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = key(project)
    monkeypatch.setenv(name, "512")
    assert key(project) != before


@pytest.mark.parametrize("name", ["LLMPERF_CACHE_DIR", "LLMPERF_DEVICE_LOCK", "COLUMNS"])
def test_a_variable_that_says_where_things_lie_does_not(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = key(project)
    monkeypatch.setenv(name, "elsewhere")
    assert key(project) == before


def install(site: Path, version: str, files: str, source: Path | None = None) -> None:
    info = site / "engine-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: engine\nVersion: {version}\n")
    (info / "RECORD").write_text(files)
    if source is not None:
        text = f'{{"url": "{source.as_uri()}", "dir_info": {{"editable": true}}}}'
        (info / "direct_url.json").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of installed packages that holds one package."""
    folder = tmp_path / "site"
    monkeypatch.setattr(fingerprint, "installed_here", lambda: Installed([folder]))
    install(folder, "1.0", "engine.so,sha256=a,1")
    return folder


@pytest.mark.parametrize(
    ("version", "files"), [("2.0", "engine.so,sha256=a,1"), ("1.0", "engine.so,sha256=b,1")]
)
def test_another_package_or_another_build_of_it_does(
    project: Path, site: Path, version: str, files: str
) -> None:
    before = key(project)
    assert key(project) == before
    install(site, version, files)
    assert key(project) != before


def test_the_projects_own_package_does_not(project: Path, site: Path) -> None:
    install(site, "1.0", "engine.so,sha256=a,1", source=project)
    before = key(project)
    install(site, "1.1", "engine.so,sha256=b,1", source=project)
    assert key(project) == before
