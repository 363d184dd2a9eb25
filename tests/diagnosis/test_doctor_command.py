"""The command llmperf doctor: real engines, from loading to what a reader reads."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from doctor_runs import AUTO, COMMAND, QUICK, Run
from stand_in_card import Card, scenario
from tiny_models import tiny_llama

from pytest_llmperf.cli import main
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.device_lock import DeviceLock

#: A model that answers at once, for tests in which the model does not matter.
TINY = ("--set", f"llm.model_path={tiny_llama()}")


def run_in_process(run: Run, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command inside this process, where a test can make the machine look quiet."""
    monkeypatch.chdir(run.folder)
    return main(["doctor", *arguments, "--json", "found.json"])


def test_a_healthy_machine_and_configuration_have_no_finding(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    quiet_machine: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = run_in_process(run, monkeypatch, *QUICK, *TINY, *AUTO)
    out = capsys.readouterr().out
    if run.found["machine"]["gpus"]:
        pytest.skip("this machine has a GPU that the engine of the tests does not use")
    assert status == 0
    assert run.found["findings"] == run.found["not_tried"] == run.found["without_gain"] == []
    assert out.strip().startswith("no cause of slowness found\nmachine  ")
    assert "(1 request, 16 tokens in, 4 out; 3 processes)" in " ".join(out.split())


def test_an_engine_without_gpu_code_beside_a_card_is_the_first_cause(run: Run, card: Card) -> None:
    """The commonest slow GPU run: 6 tokens a second, because the card is not used at all."""
    card.set(scenario("healthy"))
    done = run.doctor(*QUICK, "--no-try", **card.environ)
    assert done.returncode == 1, done.stderr
    assert run.names[0] == "cpu_only_build"
    said = " ".join(done.stdout.split())
    assert "1. the engine was built without GPU code seen llama-cpp-python" in said
    assert "all 31 layers run on the CPU, beside the NVIDIA GeForce RTX 4090 (NVML)" in said
    # A command that is broken over lines can't be copied.
    command = '     CMAKE_ARGS="-DGGML_CUDA=on" pip install --force-reinstall --no-cache-dir '
    assert f"\n{command}--no-deps --no-binary llama-cpp-python llama-cpp-python==" in done.stdout
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == [
        line for line in done.stdout.splitlines() if line.startswith(command)
    ]


def test_more_threads_than_cpus_are_tried_with_fewer(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    quiet_machine: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Other tests check what more pairs would prove.
    monkeypatch.setattr("pytest_llmperf.doctor.bench._MAX_PAIRS", 3)
    usable = usable_cpus()
    asked = usable + 1
    status = run_in_process(
        run, monkeypatch, *QUICK, *TINY, *AUTO, "--set", f"llm.n_threads={asked}"
    )
    out = " ".join(capsys.readouterr().out.split())
    found = run.found
    every = [*found["findings"], *found["without_gain"]]
    (cause,) = (cause for cause in every if cause["name"] == "threads_above_cores")
    assert cause["evidence"].startswith(f"n_threads {asked} on ")
    assert cause["settings"] == {"n_threads": min(usable, 8)}
    assert cause["gain"]["pairs"] == 3
    assert set(cause["gain"]["changes"]) == {"tokens_per_sec", "first_token", "end_to_end"}
    assert "(under llm; now --set llm.n_threads)" in out or cause in found["without_gain"]
    assert status == (1 if found["findings"] else 0)


def test_what_is_worth_trying_is_no_finding_where_nothing_may_be_tried(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    quiet_machine: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = run_in_process(run, monkeypatch, *QUICK, "--set", "llm.n_ubatch=4", "--no-try")
    out = " ".join(capsys.readouterr().out.split())
    if run.found["machine"]["gpus"]:
        pytest.skip("this machine has a GPU that the engine of the tests does not use")
    assert (status, run.names) == (0, [])
    assert "batch_small" in [cause["name"] for cause in run.found["not_tried"]]
    assert "may help, not tried: n_ubatch: 512 (the prompt of 16 tokens is computed in 4" in out


def test_a_workload_made_smaller_to_fit_the_budget_is_reported_with_its_sizes(run: Run) -> None:
    small = ("--set", "llm.n_ctx=512", "--set", "llm.max_tokens=8", "--no-try", "--budget", "3s")
    words = " ".join(run.doctor(*small).stdout.split())
    assert (
        "note: the workload was shortened to 32 prompt and 8 output tokens to fit the budget"
        in words
    )
    assert run.found["workload"] == {"prompt_tokens": 32, "output_tokens": 8}


def test_a_context_that_does_not_fit_ends_the_load_and_is_explained(run: Run) -> None:
    done = run.doctor("--set", "llm.n_ctx=50000000")
    assert done.returncode == 2
    assert run.names[0] == "context_large"
    assert done.stdout.strip().startswith("the engine can't be loaded: 1 cause found")
    assert "the KV cache of 1.0 TiB for n_ctx: 50,000,000" in " ".join(done.stdout.split())
    assert "ggml_aligned_malloc: insufficient memory" in done.stdout
    assert "change   n_ctx: " in done.stdout


def test_a_file_that_is_no_whole_model_is_reported_with_the_engines_words(
    run: Run, model_file: Path
) -> None:
    with model_file.open("rb") as whole:
        (run.folder / "cut.gguf").write_bytes(whole.read(1 << 20))
    done = run.doctor("--set", "llm.model_path=cut.gguf")
    assert done.returncode == 2
    assert done.stdout.strip().startswith("the engine can't be loaded\n")
    assert "hint: the file is truncated or damaged" in done.stdout
    assert run.found["findings"] == []


def test_a_prompt_that_does_not_fit_the_context_is_reported(run: Run) -> None:
    # Both sizes are given, so that the speed of the machine decides neither.
    sizes = ("--prompt-tokens=400", "--max-tokens=8")
    done = run.doctor("--set", "llm.n_ctx=64", "--set", "llm.max_tokens=8", *sizes)
    assert done.returncode == 2
    assert "the engine loads but can't be measured" in done.stdout
    words = " ".join(done.stdout.split())
    assert "> n_ctx 64; raise llm.n_ctx to at least 408 (llama.cpp rounds 64 up to 256)" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "llm.n_thread=4"), "--set llm.n_thread: unknown key; did you mean 'n_threads'?"),
        (("--set", "llm.model_path=nowhere.gguf"), "no such file"),
        (("--config", "other.yaml"), "other.yaml: no such file"),
        (("--budget", "5"), "expected a duration"),
        (("--prompt-tokens", "0"), "expected an integer >= 1"),
        (("--set", "llm.extra.n_ctxx=4"), "takes no such argument; did you mean 'n_ctx'?"),
        (
            ("--set", "llm.extra.rpc_servers=host:50052"),
            "llama-cpp-python ignores it, so the model",
        ),
    ],
)
def test_a_wrong_argument_is_reported_before_anything_loads(
    run: Run, arguments: tuple[str, ...], message: str
) -> None:
    done = run.doctor(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "loading the model" not in done.stderr


def test_a_message_of_several_lines_begins_with_the_programs_name_once(run: Run) -> None:
    done = run.doctor("--set", "llm.n_thread=4", "--set", "llm.n_batches=4")
    first, second = done.stderr.splitlines()
    assert first.startswith("llmperf: --set llm.n_thread: unknown key")
    assert second.startswith("--set llm.n_batches: unknown key")


def test_a_place_that_can_not_be_written_is_reported_before_anything_loads(run: Run) -> None:
    refused = subprocess.run(
        [*COMMAND, "--json", "nowhere/found.json"],
        cwd=run.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert "there is no folder" in refused.stderr
    assert "loading the model" not in refused.stderr


def test_an_application_is_measured_and_its_settings_are_left_alone(
    app_folder: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    quiet_machine: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_in_process(run, monkeypatch, "--max-tokens", "5", "--budget", "20s") == 0
    out = capsys.readouterr().out
    assert "engine   application toy:answer" in out
    assert run.found["metrics"]["tokens_per_sec"] > 0


def test_interrupted_it_says_what_it_found_and_leaves_no_engine(app_folder: Path, run: Run) -> None:
    """It waits for the device first, as another session holds it."""
    lock = DeviceLock()
    lock.acquire()
    with (app_folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "--max-tokens", "2000", "--budget", "10m", "--json", "found.json"],
            cwd=app_folder,
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(app_folder / "log", "waiting for another session")
            assert "loading the model" not in (app_folder / "log").read_text()
            lock.release()
            wait_for(app_folder / "log", "measuring the configuration")
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            _, alive = psutil.wait_procs(children, timeout=20)
            assert alive == []
        finally:
            lock.release()
            process.kill()
            process.wait()
    text = (app_folder / "log").read_text()
    assert "engine   application toy:answer" in text
    assert "interrupted before it was finished: no cause found so far\n" in text
    assert "nothing found" not in text
    assert text.endswith("llmperf: interrupted\n")
    assert json.loads((app_folder / "found.json").read_text())["interrupted"] is True
    again = DeviceLock(timeout=0)
    again.acquire()
    again.release()


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in path.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert text in path.read_text()
