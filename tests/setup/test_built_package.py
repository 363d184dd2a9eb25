"""The published package: archive, metadata, and a session of an installed wheel."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from readme_hook import for_index
from test_rooms import imported
from tiny_models import tiny_llama

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEST = """
import pytest

@pytest.mark.tokens_per_sec(min=1)
def test_short(llm_engine):
    assert llm_engine.generate("a", max_tokens=4).output_tokens == 4
"""
CONFIG = """
llm: {{model_path: {model}, n_ctx: 512, n_threads: 1, n_threads_batch: 1}}
perf: {{processes: 1, max_processes: 1, iterations: 3, warmup_max: 2}}
"""


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive of this checkout."""
    root, folder = Path(__file__).parents[2], tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=root)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=tree)
    (built,) = folder.glob("*.whl")
    return built


def test_the_source_archive_has_what_builds_and_tests_it(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "tools/readme_hook.py"} <= names
    assert {"docs/measuring.md", "tests/setup/test_built_package.py", "zensical.toml"} <= names
    tops = {name.partition("/")[0] for name in names}
    assert tops & {".ci", ".venv", ".venv-gpu", "perf_baselines", "build", "dist"} == set()
    assert [name for name in names if name.endswith((".gguf", ".whl", ".pyc"))] == []


def test_the_wheel_holds_the_package_and_complete_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        raw = archive.read(f"{info}/METADATA")
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert {name.partition("/")[0] for name in names} == {"pytest_llmperf", info}
    assert {"pytest_llmperf/py.typed", "pytest_llmperf/config/config.schema.json"} <= set(names)
    assert f"{info}/licenses/LICENSE" in names
    assert "llmperf = pytest_llmperf.plugin" in entry_points
    metadata = Metadata.from_email(raw, validate=True)
    assert metadata.author == "pytest_llmperf developers"
    assert metadata.license_expression == "MIT"
    assert metadata.summary
    assert metadata.classifiers
    assert metadata.keywords
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description is not None
    assert metadata.description.startswith("# pytest-llmperf")
    links = re.findall(r"\]\(([^)\s]+)\)", metadata.description)
    assert [link for link in links if not link.startswith(("http", "#"))] == []


def needs(name: str) -> list[str]:
    """Return the requirements that a package declares; none if it is not installed."""
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def test_what_the_package_imports_is_declared() -> None:
    """The session below takes its dependencies from this environment, which has more."""
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    ours = ("docs", "dev", "bench")
    users = [need for name, listed in extras.items() if name not in ours for need in listed]
    declared = {Requirement(need).name for need in project["dependencies"] + users}
    # Their own requirements are installed, too: jinja2 with llama-cpp-python.
    needed = [need for name in declared for need in needs(name) if "extra ==" not in need]
    known = {canonicalize_name(Requirement(need).name) for need in (*declared, *needed)}
    modules = {
        name.partition(".")[0]
        for file in (root / "pytest_llmperf").rglob("*.py")
        for name in imported(ast.parse(file.read_text(encoding="utf-8")))
    }
    packages = packages_distributions()
    undeclared = {
        module
        for module in modules - sys.stdlib_module_names - {"pytest_llmperf"}
        if not known & {canonicalize_name(name) for name in packages.get(module, [module])}
    }
    assert undeclared == set()


def test_links_of_the_readme_lead_into_the_repository_if_its_address_is_known() -> None:
    text = "[a](docs/x.md#y), [b](https://z), [c](#d)"
    known = for_index(text, "https://host/owner/repo/")
    assert known == "[a](https://host/owner/repo/blob/HEAD/docs/x.md#y), [b](https://z), [c](#d)"
    assert for_index(text, None) == "a, [b](https://z), [c](#d)"


def test_an_installed_wheel_runs_outside_of_the_repository(wheel: Path, tmp_path: Path) -> None:
    venv, project = tmp_path / "venv", tmp_path / "project"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*pip, "--no-index", "--no-cache-dir", wheel, cwd=tmp_path)
    # The dependencies come from this environment, but not its editable installation.
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path)
    (Path(site.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import pytest_llmperf; print(pytest_llmperf.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(venv)
    assert "doctor" in run(venv / "bin" / "llmperf", "--help", cwd=tmp_path)
    project.mkdir()
    (project / "config.yaml").write_text(CONFIG.format(model=tiny_llama()))
    (project / "test_speed.py").write_text(TEST)
    out = run(python, "-m", "pytest", "-m", "perf", "-p", "no:cacheprovider", cwd=project,
              LLMPERF_CACHE_DIR=str(tmp_path / "cache"), PYTHONPATH="")  # fmt: skip
    assert "1 test, 1 check" in out
    assert "tokens/s" in out
