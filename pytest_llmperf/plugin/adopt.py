"""Runs pytest with this copy of the plugin, whether or not the environment has another.

Run as a script: ``python adopt.py [--also FOLDER]... [ROOT...] -- [PYTEST ARGUMENT...]``.
``ROOT`` folders go in front of the import path, in the engine's process too; ``--also``
folders go to its end, for the plugin's own dependencies where the environment lacks them.
"""

import importlib.util
import os
import sys

#: Environment variable with the folders that the session's engine processes import from first.
ROOTS = "LLMPERF_IMPORT_ROOTS"


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
    # It is imported before pytest could rewrite its asserts; this suppresses the warning.
    module.__doc__ = f"{module.__doc__ or ''} PYTEST_DONT_REWRITE"


def main() -> int:
    """Set the import path, adopt the package, and run pytest."""
    split = sys.argv.index("--")
    folders, arguments = sys.argv[1:split], sys.argv[split + 1 :]
    also, roots = [], []
    while folders:
        folder = folders.pop(0)
        if folder == "--also":
            also.append(folders.pop(0))
        else:
            roots.append(folder)
    # A script's own folder comes first on the path; python -m pytest puts the current one there.
    own_folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != own_folder]  # noqa: PTH100
    sys.path[:0] = [*roots, os.getcwd()]  # noqa: PTH109
    sys.path.extend(also)
    os.environ[ROOTS] = os.pathsep.join(roots)
    _adopt_package()

    from pytest_llmperf.engine.orphan import die_with_parent

    # A parent session that is killed can't end this one.
    die_with_parent()

    import pytest

    # An installed copy's entry point would register the same modules a second time.
    return int(pytest.main(["-p", "no:llmperf", "-p", "pytest_llmperf.plugin", *arguments]))


if __name__ == "__main__":
    sys.exit(main())
