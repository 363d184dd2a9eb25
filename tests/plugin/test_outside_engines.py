"""An engine from another package, from its options to a verdict."""

from __future__ import annotations

import os

import outside_packages
import pytest

from pytest_llmperf.engine_kinds import GROUP

#: The engine kind that a package declares; imported in pytest's process.
KIND = """
from pydantic import BaseModel
from pytest_llmperf.extension import EngineKind

class Options(BaseModel, extra="forbid", strict=True):
    step: float
    word: str = "word"

KIND = EngineKind(
    "acme",
    "acme_engine:AcmeEngine",
    options=Options,
    identity=lambda llm: f"acme at {llm['extra']['step']}",
)
"""

#: The engine itself; importing it in pytest's process is an error.
ENGINE = """
import os, time
from pytest_llmperf.extension import EngineError, Generation, Request, Timeline, TokenSink

if os.getpid() == int(os.environ["PYTEST_PROCESS"]):
    raise RuntimeError("imported in pytest's process")

class AcmeEngine:
    def __init__(self, config):
        self.options = config["extra"]

    def info(self):
        return {"engine_version": "2.5"}

    def generate(self, request: Request, sink: TokenSink | None) -> Generation:
        if request.prompt == "refuse":
            raise EngineError("acme refuses")
        start, times = time.perf_counter(), []
        for number in range(request.max_tokens):
            time.sleep(self.options["step"])
            times.append(time.perf_counter())
            if sink is not None:
                sink(None, self.options["word"], times[-1])
        return Generation(
            text=self.options["word"] * len(times),
            token_ids=(),
            prompt_token_ids=(),
            timeline=Timeline(start, tuple(times)),
            finish_reason="length",
            cache=request.cache,
        )

    def reset(self): pass

    def close(self): pass
"""

CONFIG = """
llm:
  engine: acme
  max_tokens: 5
  extra: {step: 0.004}
perf:
  processes: 1
  iterations: 3
"""


@pytest.fixture
def acme(project, monkeypatch, quiet_machine):
    """The project, configured for the engine of an installed package."""
    monkeypatch.setenv("PYTEST_PROCESS", str(os.getpid()))
    outside_packages.install(
        monkeypatch,
        project.path / "site",
        "acme-engines",
        GROUP,
        {"acme": "acme_kind:KIND"},
        acme_kind=KIND,
        acme_engine=ENGINE,
    )
    project.configure(CONFIG)
    return project


def test_is_measured_judged_and_recorded(acme):
    acme.write(
        test_it="""
        @pytest.mark.tokens_per_sec(min=1)
        def test_answer(llm_engine):
            assert llm_engine.generate("hello").output_tokens == 5
            assert llm_engine.info.engine == "acme"
            assert "".join(token.text for token in llm_engine.stream("hello")) == "word" * 5
        """
    )
    result = acme.perf("--llmperf-record", "-v")
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(["*, acme at 0.004, acme 2.5"])
    assert acme.verdicts() == {"test_answer": "no baseline"}
    result.stdout.fnmatch_lines(["*target met: *"])
    assert 1 < acme.metric("tokens_per_sec")["value"] < 250
    (stored,) = acme.baselines()
    text = stored.read_text()
    assert '"acme at 0.004"' in text
    assert '"step": 0.004' not in text  # hidden, as any value of extra

    # The same answers, from an engine of the same options, are compared.
    assert acme.perf("--llmperf-require-baseline").ret == 0
    assert acme.metric("tokens_per_sec")["baseline"] is not None
    assert acme.verdicts()["test_answer"] in ("pass", "inconclusive", "improved", "regressed")


def test_its_options_are_checked_by_its_own_model_and_its_errors_are_told(acme):
    acme.write(
        test_it="""
        @pytest.mark.perf
        def test_refused(llm_engine):
            llm_engine.generate("refuse")

        @pytest.mark.prefill
        @pytest.mark.perf_metric("prefill_tokens_per_sec", min=1)
        def test_untold(llm_engine):
            llm_engine.generate("hello")
        """
    )
    acme.ini("markers = prefill")
    result = acme.perf()
    assert result.ret == 1
    result.stdout.fnmatch_lines_random(
        ["*acme refuses*", "*prefill_tokens_per_sec is undefined for this workload*"]
    )

    acme.configure(CONFIG.replace("step: 0.004", "step: fast, wrd: a"))
    result = acme.perf()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "*config.yaml:5: llm.extra.step: Input should be a valid number*the acme engine)",
            "config.yaml:5: llm.extra.wrd: the acme engine takes no such option",
        ]
    )
    acme.configure(CONFIG.replace("step: 0.004", "word: a"))
    acme.perf().stderr.fnmatch_lines(
        ["*config.yaml:5: llm.extra.step: the acme engine needs it, and it is missing"]
    )
    acme.configure(CONFIG.replace("engine: acme", "engine: acmee"))
    acme.perf().stderr.fnmatch_lines(
        ["*llm.engine: no engine 'acmee' is installed (installed: acme, app, llama_cpp, *)*'acme'?"]
    )
