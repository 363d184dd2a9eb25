from __future__ import annotations

import json
import os
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from package_projects import (
    make_package_environment,
    make_source,
    make_wheel,
    pyproject,
    run_python,
    versions,
    write,
)

ENGINE = "llama-cpp-python"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="looks into venvs laid out as on POSIX")


@pytest.fixture
def older_requirement(trees):
    """Two trees; the second one requires an older toy."""
    return trees(
        {"pyproject.toml": pyproject(["toy==2.0"])}, {"pyproject.toml": pyproject(["toy==1.0"])}
    )


@pytest.fixture
def fewer_requirements(trees):
    """Two trees; the second one requires less, so nothing has to be installed."""
    return trees({"requirements.txt": "dep\ntoy"}, {"requirements.txt": "dep"})


@pytest.fixture(scope="module", params=["uv", "pip"])
def created_twice(request, support, tmp_path_factory):
    """Create the environment of a tree that requires an older toy, then ask for it again."""
    folder = tmp_path_factory.mktemp("made")
    here = make_package_environment(folder, support, request.param)
    trees = [
        write(folder / name, {"pyproject.toml": pyproject([f"toy=={version}"])})
        for name, version in (("here", "2.0"), ("the other tree", "1.0"))
    ]

    def listed():
        return {path: path.lstat().st_mtime_ns for path in here.folder.rglob("*")}

    before = listed()
    first = here.ask(*trees, folder / "cache")
    unchanged = listed() == before
    here.environ |= {"PIP_FIND_LINKS": "", "UV_FIND_LINKS": "", "UV_NO_CACHE": "1"}
    second = here.ask(*trees, folder / "cache")
    return SimpleNamespace(
        first=first, second=second, unchanged=unchanged, installer=request.param, folder=folder
    )


def test_an_own_environment_differs_only_in_what_is_declared(created_twice):
    outcome = created_twice.first
    assert not outcome["shared"]
    assert outcome["note"] == "own environment: toy 1.0 (2.0 here)"
    # The older dep satisfies toy 1.0 as well as toy 2.0, so the newer dep is not fetched.
    kept = {"dep": "1.0", "free": "1.0", "helper": "1.0"}
    assert versions(outcome["python"]) == {"toy": "1.0"} | kept
    assert run_python(outcome["python"], "import toy, dep; print(toy.VERSION)") == "1.0"


def test_each_step_is_announced(created_twice):
    folder = Path(created_twice.first["python"]).parents[1]
    log = folder.with_name(f"{folder.name.partition('-')[0]}.log")
    assert created_twice.first["said"] == [
        "creating an environment for the other commit (pyproject.toml changed): toy==1.0",
        f"installing toy==1.0 with {created_twice.installer}; log: {log}",
    ]
    assert "toy" in log.read_text()


def test_an_engine_is_not_built_where_the_time_may_not_suffice(trees, tmp_path):
    from pytest_llmperf.packages.environment import InstallError, environment_for

    pins = [f"llama-cpp-python=={version}" for version in (metadata.version(ENGINE), "0.3.11")]
    here, there = trees(*({"requirements.txt": pin} for pin in pins))
    said: list[str] = []
    with pytest.raises(InstallError, match=r"it needs llama-cpp-python==0\.3\.11 built") as caught:
        environment_for(here, there, tmp_path / "cache", said.append, None, 100.0)
    assert "3 to 6 minutes, and 100 s are left of perf.budget" in str(caught.value)
    assert said == []


def test_the_second_time_nothing_is_installed(created_twice):
    assert created_twice.second == created_twice.first | {"said": []}


def test_nothing_of_this_environment_changes(created_twice):
    assert created_twice.unchanged


def test_an_environment_that_no_longer_runs_is_made_again(here, fewer_requirements, tmp_path):
    first = here.ask(*fewer_requirements, tmp_path / "cache")
    Path(first["python"]).unlink()
    second = here.ask(*fewer_requirements, tmp_path / "cache")
    assert versions(second["python"]) == {"dep": "1.0", "free": "1.0", "helper": "1.0"}
    folders = [path for path in (tmp_path / "cache" / "environments").iterdir() if path.is_dir()]
    assert len(folders) == 1


def test_another_build_of_a_kept_package_makes_another_environment(
    here, fewer_requirements, tmp_path
):
    first = here.ask(*fewer_requirements, tmp_path / "cache")
    (here.wheels / "free-1.0-py3-none-any.whl").unlink()
    make_wheel(here.wheels, "free", "1.0", files={"free/more.py": ""})
    here.unpack("free-1.0")
    assert here.ask(*fewer_requirements, tmp_path / "cache")["python"] != first["python"]


def test_a_dropped_dependency_is_left_out_unless_something_else_needs_it(here, trees, tmp_path):
    files = trees({"requirements.txt": "dep\nfree\ntoy\n"}, {"requirements.txt": "toy\n"})
    outcome = here.ask(*files, tmp_path / "cache")
    assert outcome["note"] == "own environment: without free (1.0 here)"
    assert versions(outcome["python"]) == {"toy": "2.0", "dep": "1.0", "helper": "1.0"}


def test_a_dropped_dependency_that_another_version_needs_stays(here, trees, tmp_path):
    make_wheel(here.wheels, "toy", "3.0", ["free"])
    files = trees({"requirements.txt": "free\ntoy\n"}, {"requirements.txt": "toy==3.0\n"})
    outcome = here.ask(*files, tmp_path / "cache")
    assert versions(outcome["python"])["free"] == "1.0"


def test_without_an_installer_it_is_said_what_to_do(here, older_requirement, tmp_path):
    for name in here.site.glob("pip*"):
        name.unlink()
    error = here.ask(*older_requirement, tmp_path / "cache", PATH=os.defpath)["error"]
    assert "neither uv (on PATH) nor pip 22.3 or newer (in this environment)" in error
    assert "-m ensurepip --upgrade" in error


def test_a_package_that_cannot_be_had_is_reported_with_the_end_of_the_log(
    environment_per_installer, trees, tmp_path
):
    there = trees({"requirements.txt": "toy"}, {"requirements.txt": "none==3"})
    error = environment_per_installer.ask(*there, tmp_path / "cache")["error"]
    (log,) = (tmp_path / "cache" / "environments").glob("*.log")
    assert error.startswith("installing none==3 with ")
    assert " failed (exit status 1); " in error
    assert f"the end of {log}:" in error
    assert "none==3" in error
    assert "likely cause: the package index cannot be reached, " in error
    assert 'perf: {base_install: "{python} -m pip install -r requirements.txt"}' in error
    assert not [path for path in (tmp_path / "cache" / "environments").iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_written_to_is_reported(here, fewer_requirements, tmp_path):
    (tmp_path / "cache").write_text("a file")
    error = here.ask(*fewer_requirements, tmp_path / "cache")["error"]
    assert "Not a directory" in error or "File exists" in error
    assert "LLMPERF_CACHE_DIR" in error


def test_a_missing_venv_module_is_reported(here, fewer_requirements, tmp_path):
    broken = here.site / "broken.pth"
    broken.write_text(
        "import sys; sys.modules.__setitem__('venv', None) if '-m' in sys.orig_argv else None\n"
    )
    error = here.ask(*fewer_requirements, tmp_path / "cache")["error"]
    assert "making an environment in" in error
    assert "python3-venv" in error


def test_a_module_beside_the_project_is_not_taken_for_pythons_own(support, trees, tmp_path):
    here = make_package_environment(tmp_path, support, "pip")
    here_, there = trees({"requirements.txt": "toy==2.0"}, {"requirements.txt": "toy==1.0"})
    write(there, {"pip.py": "raise SystemExit(3)", "logging.py": "raise SystemExit(3)"})
    assert "error" not in here.ask(here_, there, tmp_path / "cache")


def test_what_pythonpath_adds_is_not_taken_for_installed(here, trees, tmp_path):
    make_wheel(here.wheels, "extra", "1")
    with zipfile.ZipFile(here.wheels / "extra-1-py3-none-any.whl") as archive:
        archive.extractall(tmp_path / "added")
    path = os.pathsep.join([here.environ["PYTHONPATH"], str(tmp_path / "added")])
    files = trees({"requirements.txt": "toy"}, {"requirements.txt": "toy\nextra"})
    outcome = here.ask(*files, tmp_path / "cache", PYTHONPATH=path)
    assert versions(outcome["python"])["extra"] == "1"


def test_pip_works_on_what_pip_made(here, older_requirement, tmp_path):
    for info in here.site.glob("*.dist-info"):
        if not info.is_symlink():
            (info / "INSTALLER").write_text("pip\n")
    outcome = here.ask(*older_requirement, tmp_path / "cache")
    assert outcome["said"][-1].startswith("installing toy==1.0 with pip")


def test_the_project_is_found_by_its_metadata_only(here, trees, tmp_path):
    trees = trees({"x": ""}, {"x": ""})
    project = make_source(trees[0], "project", "3.1")
    write(project, {"project/__init__.py": "", "requirements.txt": "dep\ntoy"})
    make_source(trees[1], "project", "3.0")
    write(trees[1], {"project/__init__.py": "", "requirements.txt": "dep"})
    here.install("-e", str(project))
    outcome = here.ask(*trees, tmp_path / "cache")
    code = """
        import importlib.metadata as m, importlib.util as u
        print(m.version("project"), u.find_spec("project"), m.files("project"))
    """
    assert run_python(outcome["python"], code) == "3.1 None None"


def test_a_sibling_that_is_used_from_the_repository_is_not_copied(here, tmp_path):
    for top in ("one", "two"):
        write(tmp_path / top, {".git/HEAD": "", "app/requirements.txt": "dep\ntoy\n"})
        make_source(tmp_path / top / "core", "core", "1")
        write(tmp_path / top, {"core/core/__init__.py": ""})
    write(tmp_path / "two", {"app/requirements.txt": "dep\n"})
    here.link(tmp_path / "one" / "core", "core")
    outcome = here.ask(tmp_path / "one" / "app", tmp_path / "two" / "app", tmp_path / "cache")
    code = "import importlib.util as u; print(u.find_spec('core'))"
    assert run_python(outcome["python"], code) == "None"


def test_a_change_in_what_a_sibling_needs_is_noticed(here, tmp_path):
    for top, version in (("one", "2.0"), ("two", "1.0")):
        write(tmp_path / top, {".git/HEAD": "", "app/requirements.txt": "dep\n"})
        make_source(tmp_path / top / "core", "core", "1")
        declared = tmp_path / top / "core" / "pyproject.toml"
        text = declared.read_text().replace("= []\n", f'= ["toy=={version}"]\n')
        declared.write_text(text.replace(f'requires = ["toy=={version}"]', "requires = []"))
    here.link(tmp_path / "one" / "core", "core")
    outcome = here.ask(tmp_path / "one" / "app", tmp_path / "two" / "app", tmp_path / "cache")
    assert versions(outcome["python"])["toy"] == "1.0"


def test_an_editable_package_of_another_project_is_kept(here, fewer_requirements, tmp_path):
    lib = make_source(tmp_path / "lib", "lib", "1")
    write(lib, {"lib/__init__.py": "X = 5"})
    here.link(lib, "lib")
    outcome = here.ask(*fewer_requirements, tmp_path / "cache")
    assert run_python(outcome["python"], "import lib; print(lib.X)") == "5"


def test_paths_added_by_hand_stay_but_for_those_into_the_project(
    here, fewer_requirements, tmp_path
):
    write(tmp_path / "elsewhere", {"added.py": "X = 7"})
    write(fewer_requirements[0], {"own.py": ""})
    (here.site / "by hand.pth").write_text(f"{tmp_path / 'elsewhere'}\n{fewer_requirements[0]}\n")
    outcome = here.ask(*fewer_requirements, tmp_path / "cache")
    code = "import added, importlib.util as u; print(added.X, u.find_spec('own'))"
    assert run_python(outcome["python"], code) == "7 None"


def test_the_plugin_is_not_found_in_there(here, fewer_requirements, tmp_path):
    plugin = write(tmp_path / "plugin", {"pytest_llmperf/__init__.py": ""})
    here.link(plugin, "pytest_llmperf")
    outcome = here.ask(*fewer_requirements, tmp_path / "cache")
    code = "import importlib.util as u; print(u.find_spec('pytest_llmperf'))"
    assert run_python(outcome["python"], code) == "None"


def test_a_venv_that_sees_its_bases_packages_begets_another(here, fewer_requirements, tmp_path):
    config = here.folder / "pyvenv.cfg"
    shown = config.read_text().replace("site-packages = false", "site-packages = true")
    config.write_text(shown)
    outcome = here.ask(*fewer_requirements, tmp_path / "cache")
    assert run_python(outcome["python"], "import dep; print(dep.VERSION)") == "1.0"
    prefix = Path(outcome["python"]).parents[1]
    assert "site-packages = true" in (prefix / "pyvenv.cfg").read_text()
    (site,) = prefix.glob("lib/python*/site-packages")
    copied = {path.name.partition("-")[0] for path in site.glob("*.dist-info")}
    assert copied == {"dep", "free", "helper"}
    assert outcome["note"] == "own environment: without toy (2.0 here)"


def test_a_package_without_a_record_is_copied_by_its_module_names(
    here, fewer_requirements, tmp_path
):
    info = here.site / "free-1.0.dist-info"
    (info / "RECORD").unlink()
    (info / "top_level.txt").write_text("free\n")
    outcome = here.ask(*fewer_requirements, tmp_path / "cache")
    assert not any(line.startswith("installing") for line in outcome["said"])
    assert run_python(outcome["python"], "import free; print(free.VERSION)") == "1.0"


def test_big_files_are_shared_on_disk_and_small_ones_are_not(here, fewer_requirements, tmp_path):
    big = here.site / "free" / "big.bin"
    big.write_bytes(bytes(1 << 20))
    record = here.site / "free-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text() + "free/big.bin,,\n")
    python = here.ask(*fewer_requirements, tmp_path / "cache")["python"]
    code = "import free, os; print(json.dumps([os.stat(os.path.join(free.__path__[0], n)).st_nlink"
    counts = run_python(python, f"import json; {code} for n in ('big.bin', '__init__.py')]))")
    assert json.loads(counts) == [2, 1]


def test_the_users_command_makes_the_environment(here, older_requirement, tmp_path):
    install = "{python} -m pip install -q toy==1.0"
    outcome = here.ask(*older_requirement, tmp_path / "cache", install)
    assert outcome["note"] == (
        "own environment: dep 1.5 (1.0 here), toy 1.0 (2.0 here), "
        "without free (1.0 here), without helper (1.0 here)"
    )
    assert versions(outcome["python"]).keys() == {"toy", "dep", "pip"}


def test_the_users_command_may_install_the_project_but_it_stays_out(
    here, older_requirement, tmp_path
):
    make_source(older_requirement[1], "project", "1")
    write(older_requirement[1], {"project/__init__.py": ""})
    text = (older_requirement[1] / "pyproject.toml").read_text()
    (older_requirement[1] / "pyproject.toml").write_text(text + "[dependency-groups]\na = ['b']\n")
    outcome = here.ask(*older_requirement, tmp_path / "cache", "{python} -m pip install -q -e .")
    code = """
        import importlib.metadata as m, importlib.util as u
        print(m.version("project"), u.find_spec("project"))
    """
    assert run_python(outcome["python"], code) == "1 None"


def test_a_failing_command_is_reported_as_the_users(here, older_requirement, tmp_path):
    install = "{python} -c 'raise SystemExit(7)'"
    error = here.ask(*older_requirement, tmp_path / "cache", install)["error"]
    assert error.startswith("perf.base_install failed (exit status 7); the end of ")
    assert error.endswith("this is the command of perf.base_install; correct it there")


@pytest.mark.parametrize(
    ("install", "said"),
    [
        ("pip install 'toy", "perf.base_install: No closing quotation in "),
        (" ", "perf.base_install is empty"),
        ("no-such-program --x", "no-such-program: No such file or directory"),
    ],
)
def test_a_command_that_cannot_be_run_is_reported(here, older_requirement, tmp_path, install, said):
    assert said in here.ask(*older_requirement, tmp_path / "cache", install)["error"]
