"""Version, backend and arguments of the installed llama-cpp-python, without importing it.

Importing it loads its libraries (and a GPU driver), which is too early here.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

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
    # The package itself looks there first.
    libraries = Path(os.environ.get("LLAMA_CPP_LIB_PATH") or package / "lib")
    names = {path.name.lower() for path in libraries.glob("*ggml-*")}
    for backend in _GPU_BACKENDS:
        if any(f"ggml-{backend}." in name for name in names):
            return backend
    return "cpu"


def unknown_extra(names: Iterable[str]) -> dict[str, str | None]:
    """Return those of ``llm.extra``'s names that ``llama_cpp.Llama`` does not take.

    Returns:
        Unknown name -> nearest argument of the real signature, or None. Empty
        when the package is missing, which is reported elsewhere.
    """
    known = llama_arguments()
    if not known:
        return {}
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1)), None)
        for name in names
        if name not in known
    }


def llama_arguments() -> frozenset[str]:
    """Return the keyword arguments of the installed ``llama_cpp.Llama``, read from its source."""
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
