"""A test that builds its own Llama is noticed; the watch runs in a session of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmperf.config.model_path import resolve_model

SCRIPT = """
import sys
from pytest_llmperf.measure.own_llama import watch_own_llama

def build():
    import llama_cpp
    llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False).close()

def nothing():
    pass

def only_import():
    import llama_cpp

def failing():
    import llama_cpp
    try:
        llama_cpp.Llama("/nowhere.gguf", verbose=False)
    except ValueError:
        pass

for name in sys.argv[2:]:
    with watch_own_llama() as seen:
        globals()[name]()
    print(name, seen.built, "llama_cpp" in sys.modules)
llama = getattr(sys.modules.get("llama_cpp"), "Llama", None)
print("left wrapped", hasattr(getattr(llama, "__init__", None), "__wrapped__"))
"""


def watched(*bodies: str) -> list[str]:
    model = resolve_model("smollm2-135m", Path())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model), *bodies],
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, left = done.stdout.splitlines()
    assert left == "left wrapped False"
    return lines


def test_a_llama_built_by_the_test_that_first_imports_it_is_seen() -> None:
    assert watched("build") == ["build True True"]


def test_a_llama_built_by_a_later_test_is_seen() -> None:
    assert watched("only_import", "build", "nothing", "build") == [
        "only_import False True",
        "build True True",
        "nothing False True",
        "build True True",
    ]


@pytest.mark.parametrize("first", ["nothing", "only_import"])
def test_a_llama_that_failed_to_load_was_built_too(first: str) -> None:
    assert watched(first, "failing")[-1] == "failing True True"


def test_watching_does_not_import_the_engine() -> None:
    assert watched("nothing") == ["nothing False False"]
