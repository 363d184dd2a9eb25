from __future__ import annotations

import os
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs GNU make")


@pytest.fixture
def dry_run(root):
    def run(*arguments: str) -> list[str]:
        # As typed in a shell: this suite may itself run under make.
        skip = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON", "ENGINE", "ARGS")
        environ = {k: v for k, v in os.environ.items() if k not in skip}
        command = ["make", "--no-print-directory", "-n", *arguments]
        done = subprocess.run(
            command, cwd=root, env=environ, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    return run


@pytest.mark.parametrize("target", ["perf", "test", "lint", "docs"])
def test_each_command_does_its_own_setup_first(dry_run, target):
    assert dry_run(target)[0] == '"python3" tools/setup.py "cpu"'


def test_perf_runs_the_perf_tests_with_the_callers_arguments(dry_run):
    last = dry_run("perf", "ARGS=-k short")[-1]
    assert last == ".venv/bin/python -m pytest -m perf tests/perf -k short"


def test_gpu_tests_have_an_environment_and_an_engine_of_their_own(dry_run):
    assert dry_run("gpu-test", "ARGS=-x") == [
        '"python3" tools/setup.py "vulkan" .venv-gpu',
        ".venv-gpu/bin/python -m pytest tests/gpu -x",
    ]
    assert '"cuda" .venv-gpu' in dry_run("gpu-test", "ENGINE=cuda")[0]


def test_gpu_tests_name_a_software_device_unless_the_caller_names_one(root):
    shown = 'include Makefile\ngpu-test: ; @echo "[$$GGML_VK_VISIBLE_DEVICES]"\n'
    for given, seen in ((None, "[0]"), ("1", "[1]"), ("", "[]")):
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "GGML"))}
        if given is not None:
            environ["GGML_VK_VISIBLE_DEVICES"] = given
        command = ["make", "--no-print-directory", "-f", "-", "gpu-test"]
        done = subprocess.run(
            command, cwd=root, env=environ, input=shown, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == seen


def test_engine_and_python_are_the_callers_choice(dry_run):
    lines = dry_run("setup", "ENGINE=cuda", "PYTHON=/opt/my python/bin/python3")
    assert lines == ['"/opt/my python/bin/python3" tools/setup.py "cuda"']


def test_lint_checks_format_and_types_too(dry_run):
    text = "\n".join(dry_run("lint"))
    assert all(tool in text for tool in ("ruff check", "ruff format --check", "mypy --strict"))
