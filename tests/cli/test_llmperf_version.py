"""``llmperf --version`` names the installed version."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from pytest_llmperf.cli import main


def test_the_version_is_the_installed_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"llmperf {version('pytest-llmperf')}\n"


def test_the_version_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pytest_llmperf.cli import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n"
        "    print(sorted({'numpy', 'pydantic', 'llama_cpp', 'pynvml'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
