from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from ended_processes import wait_until_ended

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineLoadError
from pytest_llmperf.engine.request import build_request

HI = build_request(prompt="hi", max_tokens=None)

SESSION = """
import sys, time
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.request import build_request
spec = LaunchSpec("app", {"target": "application:answer"}, import_paths=(sys.argv[1],))
client = EngineClient.start(spec)
stream = client.stream(build_request(prompt="hi", max_tokens=None, stream=True))
print(client.pid, next(stream).text, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment with nothing installed in it."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return str(folder / "bin" / "python")


def test_a_worker_runs_where_the_plugin_is_not_installed(
    bare_python: str,
    app_spec: Callable[..., LaunchSpec],
    clients: Callable[[LaunchSpec], EngineClient],
) -> None:
    spec = app_spec(
        """
        import importlib.util, sys
        def answer(prompt):
            found = [n for n in ("pytest", "pydantic", "numpy") if importlib.util.find_spec(n)]
            return f"{sys.prefix} {found}"
        """,
        python=bare_python,
    )

    answer = clients(spec).request(HI).text

    assert answer == f"{Path(bare_python).parents[1]} []"


def test_an_environment_without_the_engine_is_named(bare_python: str) -> None:
    spec = LaunchSpec("llama_cpp", {"model_path": "x"}, python=bare_python)

    with pytest.raises(EngineLoadError) as caught:
        EngineClient.start(spec)

    assert str(caught.value) == (
        f"engine 'llama_cpp' could not be imported in {bare_python}: No module named 'llama_cpp'"
    )


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(EngineLoadError, match="no engine 'vllm' is installed"):
        EngineClient.start(LaunchSpec("vllm", {}))


def test_variables_and_the_working_directory_are_the_specs(
    app_spec: Callable[..., LaunchSpec],
    clients: Callable[[LaunchSpec], EngineClient],
    tmp_path: Path,
) -> None:
    spec = app_spec(
        "import os\ndef answer(prompt): return os.environ['COLOUR'] + ' ' + os.getcwd()",
        env={"COLOUR": "blue"},
        cwd=str(tmp_path),
    )

    assert clients(spec).request(HI).text == f"blue {tmp_path.resolve()}"


def test_a_session_that_is_killed_takes_worker_and_its_children_along(tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(
        textwrap.dedent("""
            import subprocess, time
            def answer(prompt):
                yield str(subprocess.Popen(["sleep", "600"]).pid)
                time.sleep(600)
        """)
    )
    session = subprocess.Popen(
        [sys.executable, "-c", SESSION, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert session.stdout is not None
    try:
        worker, child = map(int, session.stdout.readline().split())
    finally:
        os.kill(session.pid, signal.SIGKILL)
        session.wait()
        session.stdout.close()

    assert wait_until_ended(worker)
    assert wait_until_ended(child)


#: Uses 2 MB per token, and yields how many page faults that caused.
ALLOCATES = """
import resource

def answer(prompt, max_tokens):
    for _ in range(max_tokens):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [bytearray(200_000) for _ in range(10)]
        del blocks
        yield f"{resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before} "
"""


def _page_faults(client: EngineClient) -> list[int]:
    request = build_request(prompt="hi", max_tokens=40)
    return list(map(int, client.request(request).text.split()))[20:]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_memory_that_was_used_is_used_again(
    app_spec: Callable[..., LaunchSpec],
    clients: Callable[[LaunchSpec], EngineClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert max(_page_faults(clients(app_spec(ALLOCATES)))) < 20
    # A user's own setting for the allocator is kept.
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert min(_page_faults(clients(app_spec(ALLOCATES)))) > 200
