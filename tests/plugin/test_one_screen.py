"""A session of three tests that passes fits one screen, header and summary included."""

from __future__ import annotations

from pathlib import Path

from plugin_projects import app

CONFIG = (
    app("toy:steady").replace("processes: 1", "processes: 3")
    + """
  tolerance: 50%
  targets: {tokens_per_sec: 5, first_token: 8s, end_to_end: 20s}
"""
)
TESTS = """
@pytest.mark.perf
def test_short_answer(llm_engine):
    llm_engine.generate("Why?", max_tokens=8)

@pytest.mark.perf
def test_long_prompt(llm_engine):
    llm_engine.generate("word " * 40, max_tokens=6)

@pytest.mark.perf
def test_many_short_requests(llm_engine):
    for city in ("Paris", "Lima"):
        llm_engine.generate(city, max_tokens=4)
"""
#: What the session prints whatever it measures; the README's output has the same.
PRINTED = (
    "llmperf: config.yaml · ",
    "llmperf: measuring 3 tests, at least 3 processes each, ",
    " LLM performance ",
    "        metric       current     target      change ",
    "3 tests, 9 checks: 9 pass; ",
    " of measuring, ",
    "compared with 3 stored sessions of ",
    "-v shows intervals, evidence and the metrics that are not gated",
)


def ours(lines: list[str]) -> list[str]:
    """The lines of this plugin: its header, and everything from its title to pytest's last line."""
    (title,) = (number for number, line in enumerate(lines) if " LLM performance " in line)
    header = [line for line in lines[:title] if line.startswith("llmperf: ")]
    end = next(n for n in range(title + 1, len(lines)) if lines[n].startswith("==="))
    return [*header, *lines[title:end]]


def test_three_tests_that_pass_take_at_most_24_lines(project, quiet_machine, monkeypatch):
    project.configure(CONFIG)
    project.write(test_answers=TESTS)
    assert project.perf("--llmperf-record").ret == 0
    project.store_sessions([0.99, 1.0, 1.01])
    monkeypatch.setenv("COLUMNS", "80")
    result = project.perf()
    assert set(project.verdicts().values()) == {"pass"}
    lines = ours(result.outlines)
    assert len(lines) <= 24, lines
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  pass  ") for line in lines) == 9
    readme = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    for phrase in PRINTED:
        assert phrase in "\n".join(lines)
        assert phrase in readme
