"""Model files with non-ASCII names, in an ASCII locale without Python's UTF-8 mode."""

from __future__ import annotations

import os

import pytest
from plugin_projects import CACHE, REAL

from pytest_llmperf.config.embedded import EMBEDDED, models_dir


@pytest.mark.skipif(os.name != "posix", reason="elsewhere file names are no bytes")
def test_a_model_named_on_the_command_line_or_in_the_file_is_loaded(project, monkeypatch):
    model = models_dir(CACHE) / EMBEDDED["smollm2-135m"].file_name
    if not model.exists():
        pytest.skip("the embedded model is not in the cache")
    project.path.joinpath("mödel.gguf").symlink_to(model)
    project.write(test_it="def test_x(llm_engine):\n    llm_engine.generate('a', max_tokens=1)\n")
    project.configure(REAL.replace("smollm2-135m", "nötthere.gguf"))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    project.run("--llmperf-set", "llm.model_path=mödel.gguf").assert_outcomes(passed=1)
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [r"*n\xf6tthere.gguf': no such file:*did you mean 'm\xf6del.gguf'*"]
    )
