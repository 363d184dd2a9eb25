"""The wheel cache: one llama-cpp-python wheel per version, engine, build flags and platform.

pip's own cache ignores CMAKE_ARGS, so a wheel of another build can come back
from it. Here the flags are part of the folder's name, and a wheel is checked
against the SHA-256 noted when it was built. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from locks import FileLock

ENGINE_PACKAGE = "llama-cpp-python"

#: Without GGML_NATIVE=OFF the library is compiled for the build machine's own
#: processor; on a virtual machine that advertises AMX without granting it, the
#: first decode then dies with SIGSEGV.
_PORTABLE = "-DGGML_NATIVE=OFF"
ENGINE_FLAGS: dict[str, tuple[str, ...]] = {
    "cpu": (_PORTABLE,),
    "cuda": (_PORTABLE, "-DGGML_CUDA=ON"),
    "vulkan": (_PORTABLE, "-DGGML_VULKAN=ON"),
    "metal": (_PORTABLE, "-DGGML_METAL=ON"),
    # The same library plus llama.cpp's own programs (llama-bench, llama-server,
    # ...) in the environment's bin folder. LLAVA_BUILD=OFF because the tools
    # build mtmd themselves and CMake refuses to add it twice; the prebuilt web
    # page of llama-server would be a download.
    "tools": (
        _PORTABLE,
        "-DGGML_RPC=ON",
        "-DLLAVA_BUILD=OFF",
        "-DLLAMA_BUILD_TOOLS=ON",
        "-DLLAMA_BUILD_SERVER=ON",
        "-DLLAMA_TOOLS_INSTALL=ON",
        "-DLLAMA_USE_PREBUILT_UI=OFF",
    ),
}
#: How long a build takes on 2 cores, where it was measured.
_BUILD_TIMES = {
    "cpu": "about 4 minutes",
    "cuda": "about 45 minutes for each architecture",
    "vulkan": "about 12 minutes",
    "tools": "about 6 minutes",
}
#: Environment variables that change what the compiler produces.
_COMPILER_VARIABLES = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDACXX", "CUDAFLAGS")
#: Variables that would add flags missing from the folder's name.
_DROPPED_VARIABLES = ("SKBUILD_CMAKE_ARGS", "SKBUILD_CMAKE_DEFINE", "PIP_NO_BINARY")

_HINTS = (
    ("No space left on device", "the disk is full: free about 3 GB and run the command again"),
    ("CMAKE_CXX_COMPILER", "no C++ compiler: install gcc and g++ (Debian: build-essential)"),
    ("CMAKE_C_COMPILER", "no C compiler: install gcc and g++ (Debian: build-essential)"),
    ("CUDA Toolkit not found", "no CUDA toolkit: install it and put nvcc on PATH"),
    ("Failed to find nvcc", "no CUDA toolkit: install it and put nvcc on PATH"),
    ("Could NOT find Vulkan", "Vulkan headers or glslc are missing: see docs/engine-builds.md"),
    ("SPIRV-Headers", "the SPIR-V headers are missing: see docs/engine-builds.md"),
    ("No matching distribution found", "the package index could not be reached, or lacks it"),
)


class SetupError(Exception):
    """Set-up cannot go on; str() is the whole message."""


@dataclass(frozen=True)
class Build:
    """Inputs that decide a wheel's content.

    Attributes:
        engine: a key of ``ENGINE_FLAGS``.
        version: of llama-cpp-python.
        flags: the CMAKE_ARGS, in order.
        compiler: the compiler variables that are set, as NAME=value.
    """

    engine: str
    version: str
    flags: tuple[str, ...]
    compiler: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Folder name. A wheel holds no Python extension, so it serves every Python 3."""
        text = "\0".join((*self.flags, *self.compiler))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        libc = "".join(platform.libc_ver())
        where = re.sub(r"[^A-Za-z0-9.]+", "_", f"{sysconfig.get_platform()}_{libc}").strip("_")
        return f"{self.version}-{self.engine}-{digest}-py3-{where}"


def plan_build(engine: str, version: str, environ: dict[str, str]) -> Build:
    """Return the build of an engine, with the flags and compiler of the environment.

    Raises:
        SetupError: unknown engine, or CMAKE_ARGS_EXTRA cannot be split into words.
    """
    if engine not in ENGINE_FLAGS:
        known = ", ".join(name for name in ENGINE_FLAGS if name != "tools")
        raise SetupError(f"ENGINE={engine}: no such engine build; choose one of {known}")
    try:
        extra = shlex.split(environ.get("CMAKE_ARGS_EXTRA", ""))
    except ValueError as error:
        raise SetupError(f"CMAKE_ARGS_EXTRA: {error}; check its quotes") from None
    compiler = tuple(f"{n}={environ[n]}" for n in _COMPILER_VARIABLES if environ.get(n))
    return Build(engine, version, (*ENGINE_FLAGS[engine], *extra), compiler)


def cache_root(environ: dict[str, str]) -> Path:
    """Return the cache folder: LLMPERF_CACHE_DIR, or the user's cache folder of this system."""
    named = environ.get("LLMPERF_CACHE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    name = "pytest-llmperf"
    if sys.platform == "win32":
        base = environ.get("LOCALAPPDATA") or str(Path.home() / "AppData/Local")
        return Path(base) / name / name / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches" / name
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / name


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def cached_wheel(root: Path, build: Build) -> tuple[Path, str] | None:
    """Return the wheel and its SHA-256, or None if it is missing or no longer what was built."""
    folder = root / "wheels" / build.key
    try:
        note = json.loads((folder / "build.json").read_text(encoding="utf-8"))
        wheel, expected = folder / note["wheel"], str(note["sha256"])
        return (wheel, expected) if sha256_of(wheel) == expected else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def adopt_wheel(root: Path, build: Build, wheel: Path) -> tuple[Path, str]:
    """Put a finished wheel into the cache in one step; return it and its SHA-256."""
    folder = root / "wheels" / build.key
    staging = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    shutil.copyfile(wheel, staging / wheel.name)
    digest = sha256_of(staging / wheel.name)
    note = {
        "wheel": wheel.name,
        "sha256": digest,
        "version": build.version,
        "engine": build.engine,
        "cmake_args": list(build.flags),
        "compiler": list(build.compiler),
    }
    (staging / "build.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
    return folder / wheel.name, digest


def ensure_wheel(
    root: Path, build: Build, python: Path, needs: Callable[[], Mapping[str, str]] = dict
) -> tuple[Path, str]:
    """Return the wheel of ``build`` and its SHA-256, building it if the cache has none.

    Two callers at once: one builds, the other waits and takes the result.

    Args:
        root: the cache folder.
        build: the inputs that decide the wheel's content.
        python: the interpreter whose pip builds it.
        needs: called before a build: fetches its requirements, returns variables for it.

    Raises:
        SetupError: the build failed; the message holds the log's tail and path.
    """
    wheels = root / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    with FileLock(wheels / f"{build.key}.lock", "the same engine build"):
        cached = cached_wheel(root, build)
        if cached:
            print(f"engine: {ENGINE_PACKAGE} {build.version} ({build.engine}) from the wheel cache")
            return cached
        for leftover in wheels.glob(f".{build.key}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        variables = needs()
        work = wheels / f".{build.key}.building"
        work.mkdir()
        try:
            _run_build(build, python, work, wheels / f"{build.key}.log", variables)
            made = sorted(work.glob("*.whl"))
            if len(made) != 1:
                raise SetupError(f"the engine build left {len(made)} wheels in {work}, expected 1")
            return adopt_wheel(root, build, made[0])
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _run_build(
    build: Build, python: Path, work: Path, log: Path, variables: Mapping[str, str]
) -> None:
    flags = shlex.join(build.flags)
    print(f"engine: building {ENGINE_PACKAGE} {build.version} ({build.engine}) with {flags}")
    known = _BUILD_TIMES.get(build.engine)
    takes = f", {known} on 2 cores" if known else ""
    print(f"        once per machine{takes}; log: {log}", flush=True)
    if build.engine == "cuda" and "CMAKE_CUDA_ARCHITECTURES" not in flags:
        print('        for this card alone: CMAKE_ARGS_EXTRA="-DCMAKE_CUDA_ARCHITECTURES=native"')
    env = {k: v for k, v in os.environ.items() if k not in _DROPPED_VARIABLES}
    env |= {**variables, "CMAKE_ARGS": flags}
    # The build tree is 1 GB: keep it beside the cache, where it is removed for certain.
    env["TMPDIR"] = str(work)
    command = [
        *(str(python), "-m", "pip", "wheel", "-v", "--no-cache-dir", "--no-deps"),
        *("--progress-bar", "off", "--disable-pip-version-check"),
        *("--no-binary", ENGINE_PACKAGE, "--wheel-dir", str(work)),
        f"{ENGINE_PACKAGE}=={build.version}",
    ]
    started = time.monotonic()
    with log.open("w", encoding="utf-8", errors="replace") as output:
        # A session of its own, so that Ctrl-C can end pip, ninja and compilers together.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        try:
            code = _wait_showing_progress(process, log, started)
        except BaseException:
            _end(process)
            raise
    if code != 0:
        raise SetupError(_failure(build, log))
    print(f"        built in {time.monotonic() - started:.0f} s", flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_showing_progress(process: subprocess.Popen[bytes], log: Path, started: float) -> int:
    """Wait for the build, with a sign of life: in place on a terminal, every 30 s in a log."""
    live = sys.stdout.isatty()
    shown = started
    while True:
        try:
            code = process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if now - shown >= (2 if live else 30):
                shown = now
                line = f"        {now - started:4.0f} s {_step(log)}"
                print(f"\r{line}\033[K" if live else line, end="" if live else "\n", flush=True)
            continue
        if live:
            print("\r\033[K", end="", flush=True)
        return code


def _step(log: Path) -> str:
    """Return the compiler's own progress, such as ``step 108 of 274``, or an empty string."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 64_000))
        steps = re.findall(rb"^\s*\[(\d+)/(\d+)\] ", file.read(), flags=re.MULTILINE)
    return f"step {int(steps[-1][0])} of {int(steps[-1][1])}" if steps else "preparing"


def _failure(build: Build, log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    tail = "\n".join(f"  | {line[:200]}" for line in text.splitlines()[-40:])
    hint = next((h for sign, h in _HINTS if sign in text), None)
    advice = f"\nLikely cause: {hint}." if hint else ""
    return (
        f"building {ENGINE_PACKAGE} {build.version} for ENGINE={build.engine} failed; "
        f"the end of {log}:\n{tail}{advice}"
    )
