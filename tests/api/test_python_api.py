"""Measuring without pytest: the examples in docs/python-api.md run as shown and give verdicts."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_llama

import pytest_llmperf as perf
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Step
from pytest_llmperf.measure.workload import Recorder
from pytest_llmperf.session.base_side import setup_side
from pytest_llmperf.session.context import SessionContext, SessionRequest, SilentConsole
from pytest_llmperf.session.machine_watch import FitWait
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.run import Session
from pytest_llmperf.session.setup import EngineSetup

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"
#: Two processes: tests need a verdict, whichever it is. One process follows the other, which is
#: the fastest way with such a small model.
QUICK = {
    "processes": 2,
    "max_processes": 5,
    "max_pairs": 3,
    "iterations": 3,
    "warmup_max": 2,
    "turns": "processes",
}


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quiet_machine: None) -> None:
    """Work in a temporary folder, on a machine that nobody else seems to use."""
    monkeypatch.chdir(tmp_path)


def tiny(perf_settings: dict[str, Any] | None = None, **llm: Any) -> EngineSetup:
    threads = {"n_threads": 1, "n_threads_batch": 1}
    return perf.configuration(
        llm={"model_path": str(tiny_llama()), "n_ctx": 512, **threads, **llm},
        perf={**QUICK, **(perf_settings or {})},
    )


def test_settings_of_quality_are_an_argument() -> None:
    quality = {"reference": {"model_path": tiny_llama(), "n_batch": 64}, "text": "words.txt"}
    config = perf.configuration(llm={"model_path": tiny_llama()}, quality=quality).loaded.config
    assert config.quality.text == "words.txt"
    assert config.reference_llm is not None
    assert (config.reference_llm.n_batch, config.reference_llm.max_tokens) == (64, 256)
    with pytest.raises(perf.ConfigError, match=r"argument quality\.txt: unknown key"):
        perf.configuration(quality={"txt": "words.txt"})


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    code = "\n".join(blocks)
    # Word for word except for the model, the numbers of samples, and threads: while other tests
    # run, the threads of one engine wait for each other.
    for shown, here in (
        ('"smollm2-135m"', repr(str(tiny_llama()))),
        ('"budget": "30s"', f'"budget": "30s", **{QUICK}'),
        ('"n_threads": 1}', '"n_threads": 1, "n_threads_batch": 1}'),
        ('"n_ctx": 512}', '"n_ctx": 512, "n_threads": 1, "n_threads_batch": 1, "n_batch": 64}'),
    ):
        assert shown in code
        code = code.replace(shown, here)
    exec(compile(code, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    assert "tokens/s" in printed
    assert "cache  (1 request" in printed


def test_a_missed_target_is_missed() -> None:
    config = tiny({"targets": {"end_to_end": "1us"}})
    result = perf.measure_workload(config, "a", max_tokens=4)
    (test,) = result.tests
    assert test.worst is not None
    assert test.worst.kind.value == "missed"


def test_a_recorded_session_is_the_baseline_of_the_next_and_is_read() -> None:
    config = tiny()
    stored = perf.measure_workload(config, ["a", "b"], name="two", max_tokens=4, record=True)
    assert stored.recorded_to is not None
    (session,) = perf.read_sessions()
    assert [*session.record.tests] == ["two"]
    again = perf.measure_workload(config, ["a", "b"], name="two", max_tokens=4)
    assert again.baseline_sources
    assert perf.measure_workload(config, ["a"], name="two", max_tokens=4).baseline_sources == ()


def test_two_configurations_are_run_interleaved() -> None:
    slow, fast = tiny({"tolerance": "auto"}, n_batch=32), tiny()
    result = perf.compare_configurations(slow, fast, "a" * 60, max_tokens=4)
    assert any("tolerance auto is 5% here" in note for note in result.notes)
    assert result.against == "base"
    assert result.side_differences[0].startswith("llm.n_batch: ")
    (test,) = result.tests
    assert test.pairs >= 2


def test_another_model_with_the_same_work_is_compared_and_other_work_is_not() -> None:
    def ask(engine: Any) -> None:
        engine.generate([1, 2, 3], max_tokens=4 if engine.info.n_ctx == 512 else 5)

    result = perf.compare_configurations(tiny(), tiny(n_ctx=1024, chat_format="chatml"), ask)
    assert {row.verdict.kind.value for row in result.tests[0].rows if row.verdict} == {
        "workload changed"
    }
    same = perf.compare_configurations(
        tiny(), tiny(chat_format="chatml"), [[1, 2, 3]], max_tokens=4
    )
    assert same.tests[0].pairs >= 2


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(
        ConfigError, match=r"argument llm\.n_ctxx: unknown key; did you mean 'n_ctx'"
    ):
        perf.configuration(llm={"n_ctxx": 1})
    with pytest.raises(ValueError, match="makes no request to the engine"):
        perf.measure_workload(tiny(), lambda engine: None)


def test_a_path_is_a_setting_and_text_of_any_script_too(tmp_path: Path) -> None:
    model = tmp_path / "\N{MATHEMATICAL SCRIPT SMALL A}.gguf"
    model.write_bytes(tiny_llama().read_bytes())
    config = perf.configuration(llm={"model_path": model, "n_ctx": 512})
    assert config.model is not None
    assert config.model.first == model


def test_arguments_that_would_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        perf.measure_workload(tiny(), "a", record=True)
    with pytest.raises(TypeError, match="max_tokens is for prompts"):
        perf.measure_workload(tiny(), lambda engine: engine.generate("a"), max_tokens=2)


def test_the_table_names_no_option_of_pytest() -> None:
    """Next steps are Python calls and llmperf commands, whatever the verdicts are."""
    result = perf.measure_workload(tiny(), "a", max_tokens=4)
    (test,) = result.tests
    assert "measure_workload(..., name=..., record=True)" in perf.table(result)
    kinds = {VerdictKind.IMPROVED: "llmperf baseline accept --reason WHY"}
    kinds[VerdictKind.INCONCLUSIVE] = "compare_configurations(config, base, ...)"
    for kind, remedy in kinds.items():
        rows = [
            replace(row, verdict=row.verdict and replace(row.verdict, kind=kind))
            for row in test.rows
        ]
        for strict in (True, False):
            changed = replace(test, rows=tuple(rows))
            text = perf.table(replace(result, tests=(changed,), strict=strict))
            assert remedy in text
            assert "--llmperf" not in text


def test_what_could_not_be_stored_is_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Path:
        raise BaselineError("no space left")

    monkeypatch.setattr("pytest_llmperf.session.run.store_session", full)
    result = perf.measure_workload(tiny(), "a", name="a", max_tokens=2, record=True)
    assert result.recorded_to is None
    assert "the baseline was not recorded: " in perf.table(result)


class StopsDuring(SilentConsole):
    """Sends Ctrl-C before the first replay of an engine process, numbered from 1."""

    def __init__(self, process: int) -> None:
        self._process = process

    @contextmanager
    def progress(self, plan: Plan, *, in_logs: bool = True) -> Iterator[Callable[[Step], None]]:
        def on_step(step: Step) -> None:
            if step.process == self._process:
                signal.raise_signal(signal.SIGINT)

        yield on_step


def test_ctrl_c_hands_over_what_was_measured_and_still_stops() -> None:
    config = tiny({"targets": {"end_to_end": "1us"}})
    with pytest.raises(perf.Interrupted) as stopped:
        perf.measure_workload(
            config, "a", name="a", max_tokens=4, record=True, console=StopsDuring(2)
        )
    assert isinstance(stopped.value, KeyboardInterrupt)
    result = stopped.value.result
    (test,) = result.tests
    assert test.processes == 1
    assert all(row.summary is not None for row in test.rows)
    assert result.recorded_to is None
    text = perf.table(result)
    assert "the session was interrupted: verdicts are those of what was measured" in text
    assert "the session was interrupted before it was recorded" in text
    with pytest.raises(perf.Interrupted) as stopped:
        perf.compare_configurations(config, tiny(), "a", max_tokens=4, console=StopsDuring(3))
    assert stopped.value.result.tests[0].pairs == 1
    # Nothing was measured yet: there is nothing to hand over.
    with pytest.raises(KeyboardInterrupt) as early:
        perf.measure_workload(config, "a", max_tokens=4, console=StopsDuring(1))
    assert not isinstance(early.value, perf.Interrupted)


def test_a_session_measures_once_and_only_with_its_base() -> None:
    config = tiny()
    request = SessionRequest(base=setup_side("base", config, config))
    context = SessionContext(config, FitWait(), request)
    engine = LlmEngine(config.spec, 4)
    recorder = engine.observer = Recorder()
    engine.generate("a")
    workload = recorder.workload()
    assert workload is not None
    test = RecordedTest("a", workload, 0.1, [])
    with pytest.raises(RuntimeError, match=r"call Session\.prepare\(\) first"):
        Session(context).run([test], engine)
    session = Session(replace(context, request=SessionRequest()))
    session.run([test], engine)
    with pytest.raises(RuntimeError, match="measures once"):
        session.run([test], engine)


def test_the_core_does_without_pytest() -> None:
    code = "import sys, pytest_llmperf.api; print(*({'pytest', '_pytest'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_an_engine_that_is_kept_or_used_is_closed_first() -> None:
    """Measuring would otherwise wait for it, half an hour long."""
    kept: list[LlmEngine] = []
    config = tiny()

    def ask(engine: LlmEngine) -> None:
        engine.generate("a", max_tokens=2)
        with pytest.raises(
            EngineError, match=r"another engine of this process still holds the dev"
        ):
            perf.measure_workload(config, "a", max_tokens=2)
        kept.append(engine)

    perf.measure_workload(config, ask)
    kept[0].generate("a", max_tokens=2)
    with pytest.raises(EngineError, match=r"close that engine first: engine\.close\(\)"):
        perf.measure_workload(config, "a", max_tokens=2)
    kept[0].close()
    assert perf.measure_workload(config, "a", max_tokens=2).tests


def test_a_wait_for_another_process_is_logged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(tmp_path / "device.lock"))
    code = "import time; from pytest_llmperf.engine.device_lock import DeviceLock as D; d = D()\n"
    code += "d.acquire(); print('held', flush=True); time.sleep(3)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ZeroDivisionError):
            perf.measure_workload(
                tiny(), lambda engine: [engine.generate("a", max_tokens=2), 1 / 0]
            )
    assert f"waiting for another session (process {holder.pid})" in caplog.text
