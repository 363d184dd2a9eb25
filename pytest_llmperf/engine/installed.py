"""Version, backend and arguments of the installed llama-cpp-python, without importing it.

Importing it loads its libraries (and a GPU driver), which is too early here.
"""

from __future__ import annotations

import ast
import importlib.util
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Compute backends in the order a build that holds several would use them.
_GPU_BACKENDS = ("cuda", "hip", "musa", "metal", "sycl", "vulkan", "opencl", "cann")


def _package() -> Path | None:
    spec = importlib.util.find_spec("llama_cpp")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def installed_backend() -> str:
    """Return ``cuda``, ``vulkan``, ``metal``, ... or ``cpu`` for a build without GPU code.

    Source: ggml builds one shared library per backend, ``libggml-<backend>``.
    """
    package = _package()
    if package is None:
        return "cpu"
    names = {path.name.lower() for path in _libraries(package).glob("*ggml-*")}
    for backend in _GPU_BACKENDS:
        if any(f"ggml-{backend}." in name for name in names):
            return backend
    return "cpu"


def llama_arguments() -> frozenset[str]:
    """Return the keyword arguments of the installed ``llama_cpp.Llama``, read from its source.

    Empty where the package is missing.
    """
    package = _package()
    if package is None:
        return frozenset()
    try:
        tree = ast.parse((package / "llama.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return frozenset()
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Llama":
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    arguments = [*item.args.args, *item.args.kwonlyargs]
                    return frozenset(argument.arg for argument in arguments) - {"self"}
    return frozenset()


def installed_build() -> dict[str, Any]:
    """Return the version, backend and libraries that identify this build of llama.cpp."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("llama-cpp-python")
    except PackageNotFoundError:
        number = ""
    package = _package()
    libraries = {} if package is None else _sizes(_libraries(package))
    return {"version": number, "backend": installed_backend(), "libraries": libraries}


def _libraries(package: Path) -> Path:
    # The package itself looks there first.
    return Path(os.environ.get("LLAMA_CPP_LIB_PATH") or package / "lib")


def _sizes(folder: Path) -> dict[str, list[int]]:
    """Return size and modification time of every file in a folder."""
    sizes = {}
    for file in sorted(folder.glob("*")):
        with suppress(OSError):
            stat = file.stat()
            sizes[file.name] = [stat.st_size, stat.st_mtime_ns]
    return sizes
