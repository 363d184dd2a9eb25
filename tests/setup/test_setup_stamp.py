from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import setup as checkout_setup
from engine_wheel import SetupError, plan_build
from setup import (
    environment_name,
    inputs_hash,
    installed_identity,
    is_current,
    pinned_version,
    wheel_identity,
)

#: A wheel's RECORD, and the RECORD after pip installed the wheel.
_WHEEL_RECORD = """\
llama_cpp/lib/libllama.so,sha256=aa,3926832
llama_cpp/__init__.py,sha256=cc,58
llama_cpp_python-1.0.dist-info/WHEEL,sha256=dd,90
llama_cpp_python-1.0.dist-info/RECORD,,
"""
_RECORD = """\
llama_cpp/__init__.py,sha256=cc,58
llama_cpp/__pycache__/__init__.cpython-311.pyc,,
llama_cpp/lib/libllama.so,sha256=aa,3926832
llama_cpp_python-1.0.dist-info/INSTALLER,sha256=ee,4
llama_cpp_python-1.0.dist-info/RECORD,,
llama_cpp_python-1.0.dist-info/WHEEL,sha256=dd,90
"""


@pytest.fixture
def checkout(root, tmp_path):
    copy = tmp_path / "checkout with space"
    (copy / "tools").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "tools/setup.py", "tools/engine_wheel.py"):
        shutil.copy(root / name, copy / name)
    return copy


@pytest.fixture
def venv(tmp_path):
    """The parts of a finished set-up that the stamp checks."""
    home = tmp_path / "venv"
    python = checkout_setup.venv_python(home)
    python.parent.mkdir(parents=True)
    python.touch()
    record = home / "lib/python3.11/site-packages/llama_cpp_python-1.0.dist-info/RECORD"
    record.parent.mkdir(parents=True)
    record.write_text(_RECORD)
    model = tmp_path / "model.gguf"
    model.touch()
    stamp = {"inputs": "in", "engine_identity": installed_identity(home), "model": str(model)}
    (home / "llmperf-setup.json").write_text(json.dumps(stamp))
    return home


def _hash(checkout, engine="cpu", python="3.11.7"):
    return inputs_hash(checkout, plan_build(engine, "1.0", {}), python)


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "constraints.txt", "tools/setup.py", "tools/engine_wheel.py"]
)
def test_changed_input_file_asks_for_a_new_setup(checkout, name):
    before = _hash(checkout)
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    assert _hash(checkout) != before


def test_other_engine_or_python_asks_for_a_new_setup(checkout):
    assert len({_hash(checkout), _hash(checkout, "cuda"), _hash(checkout, python="3.12.1")}) == 3


def test_moved_checkout_asks_for_a_new_setup(checkout):
    before = _hash(checkout)
    assert _hash(checkout.rename(checkout.with_name("moved"))) != before


@pytest.mark.skipif(sys.platform == "win32", reason="site-packages lie elsewhere")
def test_finished_setup_is_current(venv):
    assert is_current(venv, "in")


def test_interrupted_setup_is_not_current(venv):
    (venv / "llmperf-setup.json").unlink()
    assert not is_current(venv, "in")


def test_half_written_stamp_is_not_current(venv):
    (venv / "llmperf-setup.json").write_text('{"inputs": "in"')
    assert not is_current(venv, "in")


def test_engine_replaced_by_hand_is_noticed(venv):
    record = next(venv.rglob("RECORD"))
    record.write_text(_RECORD.replace("sha256=aa", "sha256=bb"))
    assert not is_current(venv, "in")


@pytest.mark.skipif(sys.platform == "win32", reason="site-packages lie elsewhere")
def test_installed_engine_is_recognised_as_its_wheel(venv, tmp_path):
    wheel = tmp_path / "engine.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llama_cpp_python-1.0.dist-info/RECORD", _WHEEL_RECORD)
    assert installed_identity(venv) == wheel_identity(wheel)


def test_removed_engine_is_noticed(venv):
    next(venv.rglob("RECORD")).unlink()
    assert installed_identity(venv) is None


def test_deleted_model_is_noticed(venv, tmp_path):
    (tmp_path / "model.gguf").unlink()
    assert not is_current(venv, "in")


def test_missing_pin_is_named(tmp_path):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("pytest==9.0\n")
    with pytest.raises(
        SetupError, match=r"constraints\.txt: no line 'llama-cpp-python==<version>'"
    ):
        pinned_version(constraints)


def test_folder_that_is_no_environment_is_left_alone(tmp_path):
    folder = tmp_path / ".venv"
    folder.mkdir()
    (folder / "precious").touch()
    with pytest.raises(SetupError, match="exists and is not a virtual environment; move it away"):
        checkout_setup.ensure_venv(folder, tmp_path)
    assert (folder / "precious").exists()


def test_an_environment_is_one_that_git_ignores():
    assert environment_name("cpu", []) == ".venv"
    assert environment_name("vulkan", [".venv-gpu"]) == ".venv-gpu"
    with pytest.raises(SetupError, match=r"src: no such environment; choose one of \.venv"):
        environment_name("cpu", ["src"])


def test_a_cpu_build_is_kept_out_of_the_environment_for_gpus():
    with pytest.raises(SetupError, match=r"ENGINE=cpu: \.venv-gpu is for engines with GPU code"):
        environment_name("cpu", [".venv-gpu"])


@pytest.mark.parametrize(
    ("environment", "project"), [(".venv", ".[dev,docs,hub]"), (".venv-gpu", ".[dev,hub]")]
)
def test_packages_of_the_docs_are_installed_where_these_are_built(
    monkeypatch, tmp_path, environment, project
):
    commands = []
    stand_ins = {
        "ensure_venv": lambda *_: Path("python"),
        "ensure_wheel": lambda *_: (Path("engine.whl"), "hash"),
        "wheel_identity": lambda _: "engine",
        "installed_identity": lambda _: "engine",
        "run": lambda step, command, cwd: commands.append(command),
        "fetch_model": lambda *_: "model.gguf",
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(checkout_setup, name, stand_in)
    build = plan_build("vulkan", "1.0", {})
    checkout_setup.install(tmp_path / environment, tmp_path, build, tmp_path)
    assert commands[-1][-1] == project


def test_error_is_one_line_without_a_traceback(root):
    command = [sys.executable, str(root / "tools/setup.py"), "rocm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    expected = "set-up: ENGINE=rocm: no such engine build; choose one of cpu, cuda, vulkan, metal\n"
    assert done.stderr == expected
