"""Starts a worker in any Python environment, whether or not the plugin is installed there.

Run as a script. It makes this very copy of the package importable under its
own name without putting the folder it lies in on the path, so that nothing
else of the plugin's environment leaks into the engine's.
"""

import importlib.util
import os
import sys


def _adopt_package() -> None:
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    name = os.path.basename(package)  # noqa: PTH119
    spec = importlib.util.spec_from_file_location(
        name,
        os.path.join(package, "__init__.py"),  # noqa: PTH118
        submodule_search_locations=[package],
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def main() -> int:
    """Adopt the package, put the caller's import paths in front, and serve."""
    # A script's own folder comes first on the path; ours holds modules named like engines.
    own_folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != own_folder]  # noqa: PTH100
    sys.path[:0] = sys.argv[1:]
    _adopt_package()
    from pytest_llmperf.engine.worker import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
if __name__ == "__mp_main__":
    # A process that a worker started by multiprocessing, which has the worker's import paths.
    _adopt_package()
