"""Wrong settings are reported before any model is loaded: exit code 4, no traceback."""

from __future__ import annotations

import json

import pytest
from plugin_projects import all_output


def test_an_unknown_key_is_named_with_file_line_and_nearest_key(one_test):
    one_test.configure("llm:\n  engine: app\n  target: toy:answer\n  n_thrads: 5\n")
    one_test.check_refused().fnmatch_lines(
        ["ERROR: llmperf: config.yaml:4: llm.n_thrads:*n_threads*"]
    )


def test_a_wrong_value_is_named_with_file_line_and_key(one_test):
    one_test.configure("llm:\n  engine: app\n  target: toy:answer\nperf:\n  budget: 5 parsec\n")
    one_test.check_refused().fnmatch_lines(["ERROR: llmperf: config.yaml:5: perf.budget:*"])


def test_a_broken_yaml_file_is_named_with_its_line(one_test):
    one_test.configure("llm:\n  engine: [app\n")
    one_test.check_refused().fnmatch_lines(["ERROR: llmperf: config.yaml:*"])


def test_a_wrong_override_is_named(one_test):
    one_test.check_refused("--llmperf-set", "perf.proceses=1").fnmatch_lines(
        ["ERROR: llmperf: --llmperf-set perf.proceses*processes*"]
    )


def test_a_wrong_variable_is_named(one_test, monkeypatch):
    monkeypatch.setenv("LLMPERF_PERF__PROCESSES", "none")
    one_test.check_refused().fnmatch_lines(["ERROR: llmperf: environment LLMPERF_PERF__PROCESSES*"])


def test_a_missing_configuration_file_is_named(one_test):
    one_test.check_refused("--llmperf-config", "confg.yaml").fnmatch_lines(
        ["ERROR: llmperf: confg.yaml: no such file; did you mean 'config.yaml'*"]
    )


def test_a_missing_model_is_named(one_test):
    one_test.configure("llm:\n  model_path: models/none.gguf\n")
    one_test.check_refused().fnmatch_lines(["ERROR: llmperf: *models/none.gguf*"])


def test_an_unknown_argument_of_the_engine_is_named(one_test):
    one_test.configure("llm:\n  extra: {rope_freq_bas: 1.0}\n")
    one_test.check_refused().fnmatch_lines(
        ["ERROR: llmperf: *llm.extra.rope_freq_bas:*did you mean 'rope_freq_base'*"]
    )


@pytest.mark.parametrize("content", ["{", "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n"])
def test_a_baseline_file_that_cannot_be_used_is_named_and_left_alone(one_test, content):
    folder = one_test.path / "perf_baselines" / "some-machine_cpu"
    folder.mkdir(parents=True)
    file = folder / "20260101T000000Z_abc.json"
    file.write_text(content)
    one_test.check_refused().fnmatch_lines([f"ERROR: *{file.name}*"])
    assert file.read_text() == content


def test_a_report_that_has_no_folder_is_named(one_test):
    one_test.check_refused("--llmperf-json", "no/such/out.json").fnmatch_lines(
        ["ERROR: llmperf: --llmperf-json *out.json: there is no folder *no/such"]
    )


def test_a_report_that_is_a_folder_is_named(one_test):
    one_test.check_refused("--llmperf-json", ".").fnmatch_lines(["*--llmperf-json *is a folder*"])


def test_a_baselines_folder_that_is_a_file_is_named(one_test):
    one_test.path.joinpath("perf_baselines").touch()
    one_test.check_refused("--llmperf-record").fnmatch_lines(["ERROR: *perf_baselines*file*"])


@pytest.fixture
def machine_folder(one_test):
    """The folder of this machine's sessions, with one session in it."""
    one_test.perf("--llmperf-record")
    one_test.path.joinpath("loaded").unlink()
    (path,) = one_test.baselines()
    return path.parent


@pytest.mark.parametrize("option", ["--llmperf-record", "--llmperf-accept=why"])
def test_a_machines_folder_that_is_read_only_is_named(
    one_test, machine_folder, monkeypatch, option
):
    monkeypatch.setattr(
        "pytest_llmperf.atomic_write.os.access", lambda path, _: path != machine_folder
    )
    says = f"ERROR: llmperf: perf.baselines: nothing can be written in {machine_folder}; *"
    one_test.check_refused(option).fnmatch_lines([says])


def test_a_machines_folder_that_is_a_file_is_named(one_test, machine_folder):
    for path in machine_folder.iterdir():
        path.unlink()
    machine_folder.rmdir()
    machine_folder.touch()
    says = f"ERROR: llmperf: perf.baselines: {machine_folder} is a file, not a folder; *"
    one_test.check_refused("--llmperf-record").fnmatch_lines([says])


def test_a_read_only_folder_of_a_machine_that_only_the_engine_knows_is_named_in_time(
    one_test, machine_folder, monkeypatch
):
    monkeypatch.setattr("pytest_llmperf.plugin.preflight.machine_before_loading", lambda _: None)
    monkeypatch.setattr(
        "pytest_llmperf.atomic_write.os.access", lambda path, _: path != machine_folder
    )
    result = one_test.here("-m", "perf", "--llmperf-record")
    result.assert_outcomes(failed=1)
    said = all_output(result)
    assert "could not be measured: perf.baselines: nothing can be written in" in said
    assert f"written in {machine_folder};" in said
    result.stdout.no_fnmatch_line("llmperf: measuring*")


@pytest.mark.parametrize("store", [True, False])
def test_a_calibration_that_nothing_can_be_stored_of_is_refused(one_test, monkeypatch, store):
    one_test.path.joinpath("request").write_text(json.dumps({"sessions": 1, "store": store}))
    monkeypatch.setattr("pytest_llmperf.atomic_write.os.access", lambda *_: False)
    result = one_test.here(
        "-m", "perf", "--llmperf-calibrate", "request", "--llmperf-set", "perf.max_pairs=1"
    )
    assert one_test.was_loaded is not store
    if store:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: llmperf: perf.baselines: nothing can be written in *"])


def test_an_accepted_level_needs_a_reason(one_test):
    one_test.check_refused("--llmperf-accept", " ").fnmatch_lines(
        ["*--llmperf-accept: give the reason*"]
    )


def test_everything_wrong_is_said_at_once(one_test):
    one_test.path.joinpath("perf_baselines").touch()
    stderr = one_test.check_refused("--llmperf-json", ".", "--llmperf-accept", "")
    stderr.fnmatch_lines(["*perf_baselines*"])
    stderr.fnmatch_lines(["*--llmperf-accept*"])
    stderr.fnmatch_lines(["*--llmperf-json*"])


@pytest.mark.parametrize("how", ["option", "ini", "marker"])
def test_reruns_are_refused_with_the_reason(project, how):
    marker = "@pytest.mark.flaky(reruns=2)\n" if how == "marker" else ""
    project.write(test_it=f"{marker}@pytest.mark.perf\ndef test_x(llm_engine): pass\n")
    if how == "ini":
        project.ini("reruns = 2")
    args = ("--reruns", "2") if how == "option" else ()
    project.check_refused(*args).fnmatch_lines(
        ["ERROR: llmperf: test_it.py::test_x: pytest-rerunfailures would rerun*"]
    )


def test_no_reruns_are_fine(one_test):
    one_test.ini("reruns = 0")
    assert one_test.here("-m", "perf").ret == 0


def test_reruns_of_other_tests_are_fine(project):
    project.write(
        test_it="""
        tries = []

        @pytest.mark.flaky(reruns=2)
        def test_plain():
            tries.append(1)
            assert len(tries) == 2

        @pytest.mark.perf
        def test_x(llm_engine):
            llm_engine.generate("a")
        """
    )
    result = project.here("-m", "perf or not perf")
    result.assert_outcomes(passed=2)
    assert result.ret == 0


def test_a_plain_run_needs_no_configuration_that_works(project):
    project.configure("llm: nonsense\n")
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_x(llm_engine): pass

        def test_plain(): pass
        """
    )
    project.here().assert_outcomes(passed=1, deselected=1)


def test_an_application_is_imported_from_where_the_tests_import_it(project, one_test):
    source = project.path / "src"
    source.mkdir()
    (source / "laid_out.py").write_text("def answer(prompt):\n    yield from 'abc'\n")
    project.ini("pythonpath = src")
    project.perf("--llmperf-set", "llm.target=laid_out:answer").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--llmperf-json", "config.yaml"], "the configuration and --llmperf-json"),
        (["--llmperf-html", "x.xml", "--junitxml", "x.xml"], "--junitxml and --llmperf-html"),
    ],
)
def test_a_report_replaces_no_other_file_of_the_session(one_test, arguments, named):
    before = one_test.path.joinpath("config.yaml").read_text()
    one_test.check_refused(*arguments).fnmatch_lines(
        [f"ERROR: llmperf: {named} name the same file*"]
    )
    assert one_test.path.joinpath("config.yaml").read_text() == before


def test_a_test_that_is_given_twice_is_refused(one_test):
    """Its samples would count twice."""
    one_test.check_refused("--keep-duplicates", "test_it.py", "test_it.py").fnmatch_lines(
        ["ERROR: llmperf: test_it.py::test_answer: this perf test is selected more than once, *"]
    )
