from __future__ import annotations

import os
from pathlib import Path

import pytest
from package_projects import make_release, make_wheel, run_python, write

from pytest_llmperf.packages.engine_build import build_flags, flags_of
from pytest_llmperf.packages.installed import installed_here

ENGINE = "llama-cpp-python"
CONFIG = """\
set(GGML_NATIVE "OFF")
set(GGML_NATIVE_DEFAULT "ON")
set(GGML_AVX "ON")
set(GGML_AVX512 "OFF")
set(GGML_CUDA "ON")
set(GGML_CUDA_FA_ALL_QUANTS "ON")
set(GGML_CUDA_GRAPHS "ON")
set(GGML_VULKAN "0")
set(GGML_VERSION "0.25.3")
"""
BUILT_WITH = "import llama_cpp_python as e; print(e.VERSION, e.BUILT_WITH)"


def test_flags_are_those_that_differ_from_the_defaults():
    expected = ["-DGGML_CUDA=ON", "-DGGML_CUDA_FA_ALL_QUANTS=ON", "-DGGML_NATIVE=OFF"]
    assert flags_of(CONFIG) == expected


def test_a_build_for_this_processor_needs_no_flags():
    native = 'set(GGML_NATIVE "ON")\nset(GGML_AVX "OFF")\nset(GGML_AVX2 "OFF")\n'
    assert flags_of(native) == []


def test_a_portable_build_without_an_instruction_set_stays_without():
    without = 'set(GGML_NATIVE "OFF")\nset(GGML_AVX2 "OFF")\nset(GGML_FMA "ON")\n'
    assert flags_of(without) == ["-DGGML_AVX2=OFF", "-DGGML_NATIVE=OFF"]


def test_what_a_system_turns_on_by_default_is_no_flag():
    assert flags_of('set(GGML_METAL "ON")\nset(GGML_METAL_DEFAULT "ON")\n') == []


def test_flags_of_the_environment_win():
    assert build_flags(None, {"CMAKE_ARGS": " -DGGML_CUDA=on "}) == "-DGGML_CUDA=on"


def test_the_installed_engine_tells_its_flags():
    # The repository's set-up builds the engine with this flag.
    assert "-DGGML_NATIVE=OFF" in build_flags(installed_here()[ENGINE], {}).split()


@pytest.fixture
def trees(request, tmp_path):
    """Two trees that require different engines; this environment has one built for CUDA."""
    both_installers = "environment_per_installer" in request.fixturenames
    here = request.getfixturevalue("environment_per_installer" if both_installers else "here")
    config = {"lib/cmake/ggml/ggml-config.cmake": CONFIG}
    make_wheel(here.wheels, ENGINE, "2.0", ["dep"], config)
    here.unpack("llama_cpp_python-2.0")
    make_release(here.wheels, ENGINE, "1.0")
    return [
        write(tmp_path / name, {"requirements.txt": f"{ENGINE}=={version}\ntoy\n"})
        for name, version in (("here", "2.0"), ("there", "1.0"))
    ]


posix = pytest.mark.skipif(os.name != "posix", reason="looks into venvs laid out as on POSIX")


@posix
def test_another_engine_is_built_with_the_flags_of_this_one(
    environment_per_installer, trees, tmp_path
):
    outcome = environment_per_installer.ask(*trees, tmp_path / "cache")
    flags = " ".join(flags_of(CONFIG))
    folder = Path(outcome["python"]).parents[1]
    log = folder.with_name(f"{folder.name.partition('-')[0]}.log")
    said = f"building {ENGINE}==1.0 with {flags}, 3 to 6 minutes; log: {log}"
    assert said in outcome["said"]
    assert outcome["note"] == f"own environment: {ENGINE} 1.0 (2.0 here)"
    assert run_python(outcome["python"], BUILT_WITH) == f"1.0 {flags}"


@posix
def test_flags_of_the_environment_make_another_build(here, trees, tmp_path):
    first = here.ask(*trees, tmp_path / "cache", CMAKE_ARGS="-DGGML_VULKAN=on")
    assert run_python(first["python"], BUILT_WITH) == "1.0 -DGGML_VULKAN=on"
    second = here.ask(*trees, tmp_path / "cache", CMAKE_ARGS="-DGGML_BLAS=on")
    assert run_python(second["python"], BUILT_WITH) == "1.0 -DGGML_BLAS=on"


@posix
def test_an_engine_built_for_another_environment_is_taken_over(here, trees, tmp_path):
    here.ask(*trees, tmp_path / "cache")
    write(trees[1], {"requirements.txt": f"{ENGINE}==1.0\ntoy==1.0\n"})
    outcome = here.ask(*trees, tmp_path / "cache", BROKEN_BUILD="1")
    assert not any(line.startswith("building") for line in outcome["said"])
    assert outcome["said"][-1].startswith("installing toy==1.0 with uv")
    assert run_python(outcome["python"], BUILT_WITH) == f"1.0 {' '.join(flags_of(CONFIG))}"


@posix
def test_a_failed_build_says_what_could_be_wrong(here, trees, tmp_path):
    error = here.ask(*trees, tmp_path / "cache", BROKEN_BUILD="1")["error"]
    assert f"installing {ENGINE}==1.0 with uv failed" in error
    assert "CMake Error: No space left on device" in error
    assert "likely cause: the disk is full" in error
    assert "set CMAKE_ARGS" in error


@posix
def test_an_engine_that_is_the_same_is_copied_with_its_libraries(here, trees, tmp_path):
    write(trees[1], {"requirements.txt": f"{ENGINE}==2.0\ntoy==1.0\n"})
    outcome = here.ask(*trees, tmp_path / "cache")
    code = "import sysconfig; from pathlib import Path; p = sysconfig.get_path('platlib'); "
    code += "print(Path(p, 'lib/cmake/ggml/ggml-config.cmake').read_text())"
    assert run_python(outcome["python"], code) == CONFIG.strip()


@posix
def test_a_limit_on_the_engine_names_another_one(here, trees, tmp_path):
    for tree, version in zip(trees, ("2.0", "1.0"), strict=True):
        write(tree, {"requirements.txt": "toy\n", "constraints.txt": f"{ENGINE}=={version}\n"})
    outcome = here.ask(*trees, tmp_path / "cache")
    assert "; its engine is built from source, 3 to 6 minutes" in outcome["said"][0]
    assert outcome["note"] == f"own environment: {ENGINE} 1.0 (2.0 here)"


@posix
def test_an_engine_that_no_list_names_is_not_replaced(environment_per_installer, trees, tmp_path):
    make_wheel(environment_per_installer.wheels, "wrapper", "1.0", [f"{ENGINE}==1.0"])
    write(trees[1], {"requirements.txt": f"{ENGINE}\ntoy\nwrapper\n"})
    error = environment_per_installer.ask(*trees, tmp_path / "cache")["error"]
    assert "installing wrapper with " in error
    assert f"{ENGINE}==2.0" in error


@posix
def test_an_engine_that_only_this_tree_names_stays(here, trees, tmp_path):
    write(trees[1], {"requirements.txt": "toy\n"})
    assert here.ask(*trees, tmp_path / "cache")["shared"]
