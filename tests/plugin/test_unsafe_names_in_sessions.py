"""Sessions print names without their control characters."""

from __future__ import annotations

import os

import pytest
from plugin_projects import APP, Project, app_config

ESCAPE = "\x1b[2J"
SHOWN = "\\x1b[2J"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such names there")

TEST = """
@pytest.mark.end_to_end({arguments})
def test_x(llm_engine):
    llm_engine.generate("a", max_tokens=4)
"""


def ours(result: pytest.RunResult) -> list[str]:
    """Return the lines that the plugin wrote; pytest itself prints file names as they are."""
    lines = (result.stdout.str() + result.stderr.str()).splitlines()
    return [line for line in lines if not line.startswith("test_")]


def test_a_bad_record_and_a_wrong_marker_are_named_safely(one_test: Project) -> None:
    one_test.perf("--llmperf-record")
    (record,) = one_test.baselines()
    record.with_name(f"{ESCAPE}.json").write_text("{")
    result = one_test.perf()
    assert any(f"{SHOWN}.json:1: not JSON" in line for line in ours(result))
    assert not any(ESCAPE in line for line in ours(result))

    one_test.path.joinpath(f"test_{ESCAPE}.py").write_text(
        "import pytest\n" + TEST.format(arguments="min=3")
    )
    result = one_test.perf()
    assert any(f"test_{SHOWN}.py::test_x: marker" in line for line in ours(result))
    assert not any(ESCAPE in line for line in ours(result))


@pytest.mark.usefixtures("quiet_machine")
@pytest.mark.parametrize("setting", ["", "  generation_timeout: 60\n"])
def test_a_configuration_is_named_safely(project: Project, setting: str) -> None:
    name = f"other{ESCAPE}.yaml"
    project.write(test_it=TEST.format(arguments="tolerance='50%'"))
    project.configure(app_config("toy:slow").replace("perf:", f"{setting}perf:"))
    project.configure(APP, name)
    result = project.perf("--llmperf-against-config", name)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert any(f"other{SHOWN}.yaml" in line for line in ours(result))
    assert not any(ESCAPE in line for line in ours(result))
