"""A conversation that keeps the cache: the table says what was kept, and replays keep as much."""

from __future__ import annotations

import pytest
from plugin_projects import Project
from tiny_architectures import tiny_mamba

pytestmark = pytest.mark.usefixtures("quiet_machine")

CONFIG = """
llm:
  model_path: {model}
  n_ctx: 128
  max_tokens: 8
  n_threads: 1
  n_threads_batch: 1
perf:
  processes: 1
"""


def test_what_was_kept_is_counted_and_kept_in_every_replay(project: Project) -> None:
    # This model's state can't go back by a token. After an answer that ended itself, what was
    # evaluated to find its end must not be in the recorded run and missing in a replay.
    project.configure(CONFIG.format(model=tiny_mamba(ends=True)))
    project.write(
        test_it="""
        @pytest.mark.tokens_per_sec
        def test_goes_on(llm_engine):
            first = llm_engine.generate("Hello world", max_tokens=40, ignore_eos=False)
            assert (first.finish_reason, first.output_tokens) == ("eos", 5)
            talk = [*first.prompt_token_ids, *first.token_ids, 80, 81]
            second = llm_engine.generate(talk, cache="keep")
            assert second.timeline.prompt_tokens_evaluated == 3

        @pytest.mark.tokens_per_sec
        def test_changes_course(llm_engine):
            llm_engine.generate("Hello world")
            llm_engine.generate("Hello moon", cache="keep")
        """
    )
    result = project.perf()
    assert result.ret == 0
    goes_on, changes = project.session()["tests"]
    for test in (goes_on, changes):
        assert test["verdict"] == "no baseline"
        assert all(metric["samples"] for metric in test["metrics"] if metric["gated"])
    words = "cache kept (16 tokens, 15 evaluated)"
    assert goes_on["workload"]["summary"] == f"2 requests, 31 tokens in, 13 out, {words}"
    assert changes["workload"]["summary"].endswith("cache kept (0 tokens, 23 evaluated)")
    result.stdout.fnmatch_lines([f"*::test_goes_on*{words}*"])
