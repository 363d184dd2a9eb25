"""Required GPU layers, with an engine that has no GPU code and one that can't tell."""

from __future__ import annotations

import pytest
from plugin_projects import all_output
from test_real_model import REAL

from pytest_llmperf.engine.gpu_shortfall import reinstall
from pytest_llmperf.engine.installed import installed_backend

ON_CPU = installed_backend() == "cpu"


@pytest.fixture
def real(project):
    """A project whose engine is llama.cpp with the embedded model."""
    project.configure(REAL)
    return project


def test_the_marker_is_listed(project):
    project.here("--markers").stdout.fnmatch_lines(["@pytest.mark.gpu(layers='all', device=*"])


@pytest.mark.parametrize(
    ("decorator", "says"),
    [
        ("@pytest.mark.gpu(layer=3)", "*unknown argument 'layer'*did you mean 'layers'*"),
        ("@pytest.mark.gpu('all')", "*by name: gpu(layers='all')*"),
        ("@pytest.mark.gpu(layers=0)", "*layers: expected 'all' or a number above 0, got 0*"),
        ("@pytest.mark.gpu(layers='12')", "*layers: expected 'all' or a number*got '12'*"),
        ("@pytest.mark.gpu(layers=True)", "*layers: expected*got True*"),
        ("@pytest.mark.gpu(device=0)", "*device: expected a device's name*got 0*"),
        ("@pytest.mark.gpu(device=' ')", "*device: expected a device's name*"),
        (
            "@pytest.mark.gpu(layers=3)\n@pytest.mark.gpu(device='CUDA0')",
            "*contradicts another gpu marker on the same test; put both arguments into one*",
        ),
    ],
)
def test_a_wrong_marker_is_refused_by_name(project, decorator, says):
    project.write(test_it=f"{decorator}\ndef test_x(llm_engine): pass\n")
    stderr = project.check_refused(selected=())
    stderr.fnmatch_lines([f"ERROR: llmperf: test_it.py::test_x: {says}"])


def test_a_test_that_does_not_use_the_engine_is_refused(project):
    project.write(test_it="@pytest.mark.gpu(layers='all')\ndef test_x(): pass\n")
    stderr = project.check_refused(selected=())
    stderr.fnmatch_lines(["*::test_x: marker 'gpu' is about llm_engine, which this test does not*"])


def test_a_projects_own_marker_of_that_name_is_left_alone(project):
    project.write(
        test_it="""
        @pytest.mark.gpu
        def test_x(): pass

        @pytest.mark.gpu("A100")
        def test_y(): pass
        """
    )
    project.here().assert_outcomes(passed=2)


def test_a_wrong_marker_fails_its_tests_where_several_workers_run(project):
    project.write(
        test_it="""
        @pytest.mark.gpu(layers=0)
        def test_x(llm_engine): pass

        def test_plain(): pass
        """
    )
    result = project.run("-n", "1")
    result.assert_outcomes(errors=1, passed=1)
    assert "test_it.py::test_x: marker 'gpu' layers: expected 'all'" in all_output(result)


def test_an_engine_behind_another_fixture_is_used(project):
    project.write(
        test_it="""
        @pytest.fixture
        def mine(llm_engine):
            return llm_engine

        @pytest.mark.gpu(layers="all")
        def test_x(mine): pass
        """
    )
    project.here().assert_outcomes(errors=1)


def test_every_wrong_marker_is_named(project):
    project.write(
        test_it="""
        @pytest.mark.gpu(layers=-1)
        def test_one(llm_engine): pass

        @pytest.mark.gpu(device="CUDA0")
        def test_two(): pass
        """
    )
    project.here().stderr.fnmatch_lines(["*::test_one: marker 'gpu'*", "*::test_two: marker*"])


def test_the_marker_makes_no_perf_test(project):
    project.write(
        test_it="""
        @pytest.mark.gpu
        def test_x(llm_engine): pass

        @pytest.mark.gpu
        @pytest.mark.perf
        def test_perf(llm_engine): pass
        """
    )

    def listed(*args: str) -> list[str]:
        lines = project.here("--collect-only", "-q", *args).outlines
        return [line.partition("::")[2] for line in lines if "::" in line]

    assert listed() == ["test_x"]
    assert listed("-m", "gpu") == ["test_x"]
    assert listed("-m", "perf") == ["test_perf"]


def test_an_application_that_cannot_tell_is_an_error_and_no_skip(project):
    project.write(test_it="@pytest.mark.gpu\ndef test_x(llm_engine): pass\n")
    result = project.here()
    result.assert_outcomes(errors=1)
    said = all_output(result)
    assert "marker 'gpu': llm.engine: app does not report where its layers are" in said
    assert not project.was_loaded


def test_a_skipped_test_loads_nothing(project):
    project.write(test_it="@pytest.mark.skip\n@pytest.mark.gpu\ndef test_x(llm_engine): pass\n")
    project.here().assert_outcomes(skipped=1)
    assert not project.was_loaded


def test_an_application_cannot_be_required_to_use_a_gpu(one_test):
    one_test.configure("llm: {engine: app, target: 'toy:answer'}\nperf:\n  require_gpu: true\n")
    result = one_test.here("-m", "perf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: llmperf: config.yaml:3: perf.require_gpu: llm.engine: app does not report*"]
    )


@pytest.mark.skipif(not ON_CPU, reason="the installed build has GPU code: tests/gpu")
def test_a_build_without_gpu_code_fails_every_perf_test_before_its_body(real):
    real.write(
        test_it="""
        import pathlib

        @pytest.fixture
        def costly():
            pathlib.Path("body").touch()

        @pytest.mark.perf
        def test_one(costly, llm_engine):
            llm_engine.generate("Once")

        @pytest.mark.first_token(max="1h")
        def test_two(llm_engine):
            pathlib.Path("body").touch()

        def test_plain(llm_engine):
            assert llm_engine.verify_gpu_utilization().layers_on_gpu == 0
        """
    )
    result = real.here(
        *("-m", "perf or not perf", "--llmperf-set", "perf.require_gpu=true"),
        *("--llmperf-json", "out.json"),
    )
    result.assert_outcomes(errors=2, passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not real.path.joinpath("body").exists()
    assert not real.path.joinpath("out.json").exists()
    text = all_output(result)
    whole = "perf.require_gpu: 0 of 31 layers are on a GPU, and all are required cause: CPU-only"
    # Once for each test; pytest repeats it in its summary where CI is set.
    assert text.count(f"{whole} build") >= 2
    assert f"remedy: {reinstall()}==0." in text
    assert "nothing was measured" in text


@pytest.mark.skipif(not ON_CPU, reason="the installed build has GPU code: tests/gpu")
def test_the_closest_marker_counts_and_nothing_is_required_without_one(real):
    real.write(
        test_it="""
        pytestmark = pytest.mark.gpu(layers=3)

        def test_module(llm_engine): pass

        @pytest.mark.gpu(layers=4)
        class TestIt:
            def test_class(self, llm_engine): pass

            @pytest.mark.gpu(layers=5)
            @pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.gpu(layers=6))])
            def test_parameter(self, llm_engine, n): pass
        """,
        test_other="def test_unmarked(llm_engine): pass\n",
    )
    result = real.here()
    result.assert_outcomes(errors=4, passed=1)
    wanted = [f"*marker 'gpu': 0 of 31 layers are on a GPU, and {n} are required*" for n in "3456"]
    result.stdout.fnmatch_lines(wanted)


def test_an_engine_that_cannot_be_loaded_is_tried_once(real):
    broken = real.path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    real.configure(REAL.replace("smollm2-135m", "broken.gguf"))
    real.write(
        test_it="""
        @pytest.mark.gpu
        @pytest.mark.parametrize("n", [1, 2])
        def test_x(llm_engine, n): pass
        """
    )
    result = real.here()
    result.assert_outcomes(errors=2)
    assert all_output(result).count("llama.cpp could not load") >= 2
