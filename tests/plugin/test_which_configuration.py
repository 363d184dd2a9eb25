"""Which ``config.yaml`` a session reads, and says it reads, wherever pytest is started."""

from __future__ import annotations

import pytest
from plugin_projects import APP


@pytest.fixture
def elsewhere(one_test):
    """The project with an empty folder beside its configuration."""
    one_test.path.joinpath("elsewhere").mkdir()
    return one_test


def test_the_file_beside_pytests_settings_is_read_whatever_the_root_folder_is(
    elsewhere, monkeypatch
):
    top, root = elsewhere.path, elsewhere.path / "elsewhere"
    monkeypatch.chdir(root)
    arguments = ("-c", str(top / "tox.ini"), f"--rootdir={root}", str(top / "test_it.py"))
    report = f"--llmperf-json={top / 'out.json'}"
    result = elsewhere.here("-m", "perf", "--llmperf-record", report, *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"llmperf: {top / 'config.yaml'}*"])
    assert len(elsewhere.baselines()) == 1


def test_a_session_says_which_file_it_reads_or_that_there_is_none(elsewhere):
    listing = ("--collect-only", "-q", "-v")
    result = elsewhere.here("-m", "perf", *listing)
    result.stdout.fnmatch_lines(["llmperf: config.yaml · toy:answer"])
    elsewhere.configure(APP, "other.yaml")
    result = elsewhere.here("-m", "perf", "--llmperf-config", "other.yaml", *listing)
    result.stdout.fnmatch_lines(["llmperf: other.yaml · toy:answer"])
    elsewhere.path.joinpath("config.yaml").unlink()
    result = elsewhere.here("-m", "perf", *listing)
    result.stdout.fnmatch_lines([f"llmperf: no config.yaml in {elsewhere.path}: defaults*"])
    elsewhere.here("-m", "not slow").stdout.no_fnmatch_line("llmperf: *config*")


def test_settings_that_are_no_file_name_no_folder(elsewhere):
    """As ``-c /dev/null``, which asks for no settings."""
    scope = "asyncio_default_fixture_loop_scope=function"
    result = elsewhere.here("-c", "/dev/null", "-o", scope, "-m", "perf", "--collect-only")
    result.stdout.fnmatch_lines(["llmperf: config.yaml · toy:answer"])


def test_the_folder_where_pytest_was_started_comes_last(elsewhere):
    settings = elsewhere.path / "elsewhere" / "ci.ini"
    settings.write_text(elsewhere.path.joinpath("tox.ini").read_text())
    arguments = ("-c", str(settings), "-m", "perf", "--collect-only", "test_it.py")
    elsewhere.here(*arguments).stdout.fnmatch_lines(["llmperf: config.yaml · toy:answer"])
    elsewhere.configure(APP, "elsewhere/config.yaml")
    elsewhere.here(*arguments).stdout.fnmatch_lines(["llmperf: elsewhere/config.yaml · toy:answer"])
