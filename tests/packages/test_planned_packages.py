from __future__ import annotations

import zipfile

import pytest
from package_projects import make_wheel, pyproject, write

from pytest_llmperf.packages.declarations import declared
from pytest_llmperf.packages.errors import InstallError
from pytest_llmperf.packages.installed import Installed
from pytest_llmperf.packages.plan import make_plan


@pytest.fixture
def installed(tmp_path):
    """An environment's folder: toy 2.0 (needs dep, and helper), dep 1.0, helper, free."""

    def make(*more):
        folder = tmp_path / "site"
        folder.mkdir()
        plain = [("toy", "2.0", ["dep", "helper"]), ("dep", "1.0"), ("helper", "1"), ("free", "1")]
        for wheel in (*plain, *more):
            with zipfile.ZipFile(make_wheel(tmp_path / "wheels", *wheel)) as archive:
                archive.extractall(folder)
        return Installed([folder])

    return make


@pytest.fixture
def plan(tmp_path, installed):
    """The plan for two trees, the first one "here"."""

    def make(here, there, more=(), own=()):
        ours = declared(write(tmp_path / "here", here))
        theirs = declared(write(tmp_path / "there", there))
        found = installed(*more)
        return make_plan(ours, theirs, found, [found[name] for name in own])

    return make


def surplus(plan, folder):
    return plan.surplus(Installed([folder]))


def test_what_is_installed_and_fits_is_copied(plan):
    found = plan({"requirements.txt": "toy==2.0\nnew"}, {"requirements.txt": "toy>=1"})
    assert found.lines() == []
    assert [each.name for each in found.copied] == ["dep", "free", "helper", "toy"]


def test_what_does_not_fit_is_installed(plan):
    found = plan({"requirements.txt": "toy==2.0"}, {"requirements.txt": "toy==1.0"})
    assert found.lines() == ["toy==1.0"]
    assert "toy" not in [each.name for each in found.copied]


def test_what_only_this_tree_asked_for_is_surplus(plan, tmp_path):
    found = plan({"requirements.txt": "toy\ndep"}, {"requirements.txt": "dep"})
    assert surplus(found, tmp_path / "site") == {"toy", "helper"}


def test_what_nobody_declares_stays_with_what_it_needs(plan, tmp_path):
    tool = ("tool", "1", ["helper"])
    found = plan({"requirements.txt": "toy"}, {"requirements.txt": "dep"}, [tool])
    assert surplus(found, tmp_path / "site") == {"toy"}


def test_what_the_engines_worker_needs_stays(plan, tmp_path):
    more = [("llama-cpp-python", "1", ["dep"]), ("numpy", "1")]
    here = {"requirements.txt": "toy\nllama-cpp-python\nnumpy"}
    found = plan(here, {"requirements.txt": "free"}, more)
    assert surplus(found, tmp_path / "site") == {"toy", "helper"}


def test_a_drifted_package_that_both_declare_alike_is_left_alone(plan):
    here = {"requirements.txt": "toy==1.9\nfree>=1"}
    found = plan(here, {"requirements.txt": "toy==1.9\nfree"})
    assert found.lines() == []


def test_a_list_that_this_environment_drifted_from_is_still_followed(plan):
    found = plan({"requirements.txt": "toy==1.9\nfree"}, {"requirements.txt": "toy==1.0\nfree"})
    assert found.lines() == ["toy==1.0"]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (
            '[dependency-groups]\ndev = ["toy==2.0"]\n',
            '[dependency-groups]\nnew = ["toy==1.0"]\ndev = [{include-group = "new"}]\n',
        ),
        (
            '[project.optional-dependencies]\ndev = ["toy==2.0"]\n',
            '[project.optional-dependencies]\nnew = ["toy==1.0"]\ndev = ["project[new]"]\n',
        ),
    ],
    ids=["group", "extra"],
)
def test_what_a_followed_list_includes_is_followed(plan, here, there):
    trees = [{"pyproject.toml": pyproject(more=more)} for more in (here, there)]
    assert plan(*trees).lines() == ["toy==1.0"]


def test_an_extra_that_is_not_installed_is_not_installed_there_either(plan):
    more = '[project.optional-dependencies]\ndev = ["none=={}"]\n'
    trees = [{"pyproject.toml": pyproject(["toy"], more=more.format(n))} for n in (2, 1)]
    assert plan(*trees).lines() == []


@pytest.mark.parametrize(
    "more",
    [
        '[project.optional-dependencies]\ndev = ["toy=={}"]\n',
        '[dependency-groups]\nmain = ["toy=={}"]\ndev = [{{include-group = "main"}}]\n',
        '[project.optional-dependencies]\nall = ["project[dev]"]\ndev = ["toy=={}"]\n',
    ],
    ids=["extra", "included group", "extra of the project itself"],
)
def test_an_extra_or_group_that_is_installed_is_followed(plan, more):
    trees = [{"pyproject.toml": pyproject(more=more.format(n))} for n in ("2.0", "1.0")]
    assert plan(*trees).lines() == ["toy==1.0"]


def test_an_extra_that_only_the_other_tree_has_is_not_followed(plan):
    more = '[project.optional-dependencies]\ndev = ["none"]\n'
    there = {"pyproject.toml": pyproject(["free"], more=more)}
    assert plan({"pyproject.toml": pyproject()}, there).lines() == []


def test_a_requirements_file_that_only_the_other_tree_has_is_followed(plan):
    there = {"requirements.txt": "toy==1.0"}
    assert plan({"pyproject.toml": pyproject(["toy"])}, there).lines() == ["toy==1.0"]


def test_of_two_files_for_two_machines_the_one_that_is_met_is_followed(plan):
    here = {"requirements-cpu.txt": "toy==2.0", "requirements-gpu.txt": "toy==3.0"}
    there = {"requirements-cpu.txt": "toy==1.0", "requirements-gpu.txt": "toy==1.5"}
    assert plan(here, there).lines() == ["toy==1.0"]


def test_requirements_for_other_systems_are_passed_over(plan):
    there = {"requirements.txt": "none; sys_platform == 'none'\ntoy"}
    assert plan({"requirements.txt": "toy==2.0"}, there).lines() == []


def test_an_extra_of_a_package_that_is_not_here_is_installed(plan):
    toy = ("box", "1", ["none; extra == 'fast'"])
    found = plan({"requirements.txt": "box"}, {"requirements.txt": "box[fast]"}, [toy])
    assert found.lines() == ["box[fast]"]


def test_what_fits_limits_the_installer(plan):
    there = {"requirements.txt": "toy==1.0\ndep<2"}
    assert plan({"requirements.txt": "toy"}, there).constraints == ["dep<2"]


def test_a_constraint_that_is_followed_here_is_followed_there(plan):
    here = {"requirements.txt": "toy", "constraints.txt": "dep==1.0\nhelper==5"}
    there = {"requirements.txt": "toy", "constraints.txt": "dep==1.5\nhelper==6\nfree==9"}
    found = plan(here, there)
    assert found.lines() == ["dep==1.5"]
    assert found.constraints == ["dep==1.5"]


def test_an_exact_requirement_is_worth_more_than_a_constraint_it_contradicts(plan):
    limits = {"constraints.txt": "toy==2.0\nnone<9"}
    there = {"requirements.txt": "toy==1.0\nnone==1"}
    found = plan({"requirements.txt": "toy==2.0"} | limits, there | limits)
    assert found.lines() == ["none==1", "toy==1.0"]
    assert found.constraints == ["none<9"]


def test_a_lock_that_is_followed_here_is_followed_there(plan):
    lock = '[[package]]\nname = "dep"\nversion = "{}"\n'
    trees = [
        {"pyproject.toml": pyproject(["toy"]), "uv.lock": lock.format(n)} for n in ("1.0", "1.5")
    ]
    assert plan(*trees).lines() == ["dep==1.5"]


def test_a_lock_that_only_the_other_tree_has_limits_what_is_installed_only(plan):
    lock = '[[package]]\nname = "dep"\nversion = "1.5"\n[[package]]\nname="none"\nversion="3"\n'
    here = {"pyproject.toml": pyproject(["toy"])}
    found = plan(here, here | {"uv.lock": lock})
    assert found.lines() == []
    assert found.constraints == ["none==3"]


def test_options_of_requirements_files_reach_the_installer(plan, tmp_path):
    (tmp_path / "there" / "wheels").mkdir(parents=True)
    there = {"requirements.txt": "-f wheels\n--extra-index-url https://example.com\n--pre\nnone"}
    assert plan({}, there).options == [
        f"--find-links {tmp_path / 'there' / 'wheels'}",
        "--extra-index-url https://example.com",
        "--pre",
    ]


def test_hashes_are_kept_if_every_requirement_has_one(plan):
    there = {"requirements.txt": "one==1 --hash=sha256:a\ntwo==1 --hash=sha256:b"}
    assert plan({}, there).lines() == ["one==1 --hash=sha256:a", "two==1 --hash=sha256:b"]


def test_hashes_are_dropped_if_some_requirement_has_none(plan):
    there = {"requirements.txt": "one==1 --hash=sha256:a\ntwo==1"}
    assert plan({}, there).lines() == ["one==1", "two==1"]


def test_the_plugin_is_neither_copied_nor_installed(plan):
    there = {"requirements.txt": "pytest-llmperf==0.0.1\nfree"}
    found = plan({}, there, [("pytest-llmperf", "1", ["dep"])])
    assert found.lines() == []
    assert "pytest-llmperf" not in [each.name for each in found.copied]


def test_the_project_itself_is_only_described(plan):
    there = {"pyproject.toml": pyproject(["free"], name="toy")}
    found = plan({"pyproject.toml": pyproject(name="toy")}, there, own=["toy"])
    assert [each.name for each in found.described] == ["toy"]
    assert "toy" not in [each.name for each in found.copied]


def test_a_package_inside_the_tree_is_taken_from_there(plan, tmp_path):
    there = {"requirements.txt": "./core", "core/pyproject.toml": pyproject(["none"], name="core")}
    found = plan({}, there, [("core", "1")])
    assert found.lines() == ["none", str(tmp_path / "there" / "core")]
    assert "core" not in [each.name for each in found.copied]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pyproject.toml": pyproject(more='requires-python = ">=9"')}, "asks for Python >=9"),
        ({"setup.py": "setup(install_requires=read())"}, "cannot be read without running it"),
        ({"environment.yml": "dependencies: [toy]"}, "cannot be read without running it"),
        (
            {"pyproject.toml": '[tool.poetry.dependencies]\ntoy = "^1 || ^2"\n'},
            r"'toy \^1 \|\| \^2', which no installer understands",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_way_out(plan, files, said):
    with pytest.raises(InstallError, match=said) as caught:
        plan({"requirements.txt": "toy"}, files)
    assert "Python" in str(caught.value) or "perf: {base_install: " in str(caught.value)


def test_a_python_that_both_ask_for_in_vain_is_no_trouble(plan):
    files = {"pyproject.toml": pyproject(more='requires-python = ">=9"')}
    assert plan(files, files | {"requirements.txt": "toy==1.0"}).lines() == ["toy==1.0"]


def test_what_cannot_be_read_but_is_equal_is_no_trouble(plan):
    files = {"setup.py": "setup(install_requires=read())"}
    assert plan(files, files | {"requirements.txt": "toy==1.0"}).lines() == ["toy==1.0"]


def test_a_conda_file_beside_readable_lists_is_passed_over(plan):
    there = {"environment.yml": "x", "requirements.txt": "toy==1.0"}
    assert plan({}, there).lines() == ["toy==1.0"]
