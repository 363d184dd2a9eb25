from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
from engine_wheel import SetupError, adopt_wheel, cached_wheel, ensure_wheel, plan_build
from standin_index import VERSION

PYTHON = Path(sys.executable)


def built_with(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read("llama_cpp/built_with.txt").decode()


@pytest.mark.parametrize(
    "environ",
    [{"CMAKE_ARGS_EXTRA": "-DGGML_AVX512=ON"}, {"CXX": "clang++"}, {"CXXFLAGS": "-O1"}],
    ids=lambda environ: next(iter(environ)),
)
def test_what_changes_the_build_changes_the_cache_entry(environ):
    assert plan_build("cpu", "1.0", environ).key != plan_build("cpu", "1.0", {}).key


def test_each_engine_and_version_has_its_own_entry():
    builds = [plan_build(e, v, {}).key for e in ("cpu", "cuda", "vulkan") for v in ("1.0", "1.1")]
    assert len(set(builds)) == 6


def test_every_build_is_portable():
    assert all(
        "-DGGML_NATIVE=OFF" in plan_build(engine, "1.0", {}).flags
        for engine in ("cpu", "cuda", "vulkan", "metal", "tools")
    )


def test_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(SetupError, match=r"ENGINE=rocm: no such.*cpu, cuda, vulkan, metal$"):
        plan_build("rocm", "1.0", {})


def test_unbalanced_quotes_in_extra_flags_are_named():
    with pytest.raises(SetupError, match="CMAKE_ARGS_EXTRA: No closing quotation"):
        plan_build("cpu", "1.0", {"CMAKE_ARGS_EXTRA": "-DX='a"})


def test_wheel_is_built_with_the_planned_flags_only(cache, standin_index, monkeypatch):
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_NATIVE=ON")
    build = plan_build("cpu", VERSION, {"CMAKE_ARGS_EXTRA": "-DGGML_AVX512=OFF"})
    wheel, _ = ensure_wheel(cache, build, PYTHON)
    assert built_with(wheel) == "-DGGML_NATIVE=OFF -DGGML_AVX512=OFF"


def test_second_call_takes_the_cached_wheel(cache, standin_index, capsys):
    build = plan_build("cpu", VERSION, {})
    first = ensure_wheel(cache, build, PYTHON)
    (standin_index / f"llama_cpp_python-{VERSION}.tar.gz").unlink()
    assert ensure_wheel(cache, build, PYTHON) == first
    assert "from the wheel cache" in capsys.readouterr().out


def test_what_a_build_needs_is_asked_for_only_where_there_is_no_wheel(cache, standin_index):
    build = plan_build("cpu", VERSION, {})
    asked: list[str] = []

    def needs() -> dict[str, str]:
        asked.append("asked")
        return {"STANDIN_FAIL": "1"} if len(asked) == 1 else {}

    with pytest.raises(SetupError):  # the variables reach the build
        ensure_wheel(cache, build, PYTHON, needs)
    for _ in range(2):
        ensure_wheel(cache, build, PYTHON, needs)
    assert len(asked) == 2


def test_altered_wheel_is_not_handed_out(tmp_path, cache):
    build = plan_build("cpu", VERSION, {})
    built = tmp_path / "x.whl"
    built.write_bytes(b"good")
    wheel, digest = adopt_wheel(cache, build, built)
    assert cached_wheel(cache, build) == (wheel, digest)
    wheel.write_bytes(b"evil")
    assert cached_wheel(cache, build) is None


def test_failed_build_shows_the_log_the_cause_and_leaves_nothing(cache, standin_index, monkeypatch):
    monkeypatch.setenv("STANDIN_FAIL", "1")
    build = plan_build("cpu", VERSION, {})
    with pytest.raises(SetupError) as caught:
        ensure_wheel(cache, build, PYTHON)
    message = str(caught.value)
    assert f"the end of {cache / 'wheels' / build.key}.log" in message
    assert "| " in message
    assert "Likely cause: the disk is full" in message
    assert [p for p in (cache / "wheels").iterdir() if p.is_dir()] == []


@pytest.mark.skipif(os.name != "posix", reason="sends SIGTERM")
def test_stopped_build_ends_its_compilers_and_is_done_again(
    root, cache, standin_index, tmp_path, monkeypatch
):
    mark = tmp_path / "compiling"
    script = (
        "import signal, sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(root / 'tools')!r})\n"
        "from setup import _stop; signal.signal(signal.SIGTERM, _stop)\n"
        "from engine_wheel import ensure_wheel, plan_build\n"
        f"ensure_wheel(Path({str(cache)!r}), plan_build('cpu', {VERSION!r}, {{}}), "
        "Path(sys.executable))\n"
    )
    environ = {**os.environ, "STANDIN_SLEEP_MARK": str(mark)}
    setup = subprocess.Popen([sys.executable, "-c", script], env=environ, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (mark.exists() and mark.read_text()):
        assert setup.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    setup.send_signal(signal.SIGTERM)
    assert setup.wait(20) == 128 + signal.SIGTERM
    compiler = int(mark.read_text())
    psutil.wait_procs([psutil.Process(compiler)] if psutil.pid_exists(compiler) else [], timeout=10)
    assert not psutil.pid_exists(compiler)
    wheel, _ = ensure_wheel(cache, plan_build("cpu", VERSION, {}), PYTHON)
    assert built_with(wheel) == "-DGGML_NATIVE=OFF"
