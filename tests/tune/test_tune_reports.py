"""The result of a search as a document, as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tune_results import TEST, nothing_found, result

from pytest_llmperf.config.yaml_file import parse
from pytest_llmperf.report.tune import render
from pytest_llmperf.report.tune_json import as_json
from pytest_llmperf.report.tune_markdown import code, escape, render_markdown, table
from pytest_llmperf.text import display_width
from pytest_llmperf.tune.result import Level, Point, TuneResult

GOLDEN = Path(__file__).with_name("summary.md")
COMMAND = "llmperf tune --study chat"


def _summary(found: TuneResult) -> str:
    return render_markdown(found, date="2026-11-28", command=COMMAND)


def _section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0].strip()


def test_the_document_is_the_golden_one() -> None:
    assert _summary(result()) == GOLDEN.read_text(encoding="utf-8")


def test_the_winners_settings_are_yaml_that_can_be_copied() -> None:
    block = _section(_summary(result()), "Settings to use")
    assert block.startswith("```yaml\n")
    assert parse(block.split("\n", 1)[1].removesuffix("```").encode()) == {
        "llm": {"n_batch": 512, "flash_attn": True, "type_k": "q8_0"}
    }


def test_without_a_proven_gain_todays_settings_stay() -> None:
    text = _summary(nothing_found())
    assert "**No proven improvement: today's settings stay**" in text
    assert _section(text, "Settings to use") == "Today's settings: no improvement was proven."
    assert "| metric      | current    | target            | status |" in text
    assert "0.8% faster | [2.0% faster to 0.4% slower] | no proven |" in text
    assert "## Trade-offs" not in text
    nothing = replace(nothing_found(), confirmed=None, points=(), targets=())
    text = _summary(nothing)
    assert "No combination looked better" in text or "no combination looked better" in text
    assert _section(text, "Targets") == "No targets are set."
    assert "0 combinations" in text
    assert "### Phase" not in text


HOSTILE = "a|b `c` <img src=x> [d](e) *f* _g_ &amp; ![h](i)\x1b[31m\nj"


def test_no_value_is_taken_for_markdown_or_html() -> None:
    hostile = result(
        machine=HOSTILE, model=HOSTILE, engine=HOSTILE, conclusion=HOSTILE, notes=(HOSTILE,),
        workload=(HOSTILE, HOSTILE), study=HOSTILE,
        points=(
            Point(1, 1, {"model_path": HOSTILE}, "failed", HOSTILE),
            Point(2, 1, {"chat_format": HOSTILE}, "lost", HOSTILE),
        ),
    )  # fmt: skip
    text = _summary(hostile)
    assert "\x1b" not in text
    outside = "\n".join(line for line in text.splitlines() if "`" not in line)
    for dangerous in ("<img", " `c`", " *f*", " _g_", "[d](", "&amp;", "a|b"):
        assert dangerous not in outside.replace("\\" + dangerous, "")
    for line in text.splitlines():
        if line.startswith("| ") and "model_path" in line:
            cells = line.replace("\\|", "").count("|") - 1
            assert cells == 4
    assert (
        escape("n_batch: 512 [1.2% faster to 3.0% slower] 5% (a)")
        == "n_batch: 512 [1.2% faster to 3.0% slower] 5% (a)"
    )
    assert escape("1. a") == "1\\. a"
    assert code("a ``b`` | c", cell=True) == "``` a ``b`` \\| c ```"
    assert "Machine `` a|b `c` " in text  # not a table cell: nothing to escape
    # The YAML block ends where it should.
    fenced = replace(hostile.before, changed={"chat_format": "```"})
    assert '````yaml\nllm:\n  chat_format: "```"\n````' in _summary(replace(hostile, winner=fenced))


def test_memory_has_a_unit_in_every_report() -> None:
    memory = Level("peak_memory", 1.5 * 2**30, TEST)
    outcome = result()
    points = tuple(replace(point, levels=(*point.levels, memory)) for point in outcome.points)
    before = replace(outcome.before, levels=(*outcome.before.levels, memory))
    metrics = (*outcome.pareto_metrics, "peak_memory")
    outcome = replace(outcome, points=points, before=before, pareto_metrics=metrics)
    for text in (_summary(outcome), "\n".join(render(outcome, 200))):
        assert "peak memory" in text
        assert "1.5 GiB" in text
        assert "peak_memory" not in text


def test_columns_are_as_wide_as_their_cells() -> None:
    assert table(["metric", "x"], [["a", "a long reason"], ["日本語", "-"]]) == (
        "| metric | x |\n| ------ | --- |\n| a      | a long reason |\n| 日本語 | - |"
    )


def test_private_arguments_and_passwords_stay_out() -> None:
    changed = {"extra.rope_freq_base": 1e6}
    outcome = result()
    assert outcome.winner is not None
    outcome = replace(
        outcome,
        winner=replace(outcome.winner, changed=changed),
        points=(Point(1, 1, changed, "measured", took_over=True),),
    )
    texts = [
        _summary(outcome),
        "\n".join(render(outcome)),
        json.dumps(as_json(outcome, date="2026-11-28")),
    ]
    for text in texts:
        assert "secret" not in text
        assert "hunter2" not in text
        assert "/home/me" not in text
        assert "rope_freq_base" in text
    assert "  extra:  # besides the present ones\n    rope_freq_base: 1000000.0\n" in texts[0]


def test_the_terminals_text_fits() -> None:
    for width in (80, 60):
        for outcome in (result(), nothing_found(), result(interrupted=True)):
            lines = render(outcome, width)
            assert [line for line in lines if display_width(line) > width] == []
    text = "\n".join(render(result(), 80))
    for part in (
        "improved: tokens/s 35.5% faster [34.5% to 36.5%]; 1 of 2 targets is met\n",
        "tried    6 combinations: 4 compared, 1 did not fit, 1 failed\n",
        "  first token  at most 500 ms     812 ms      604 ms      missed → missed\n",
        "35.5% faster [34.5% to 36.5%]  yes\n",
        "settings to use\nllm:\n  n_batch: 512\n",
    ):
        assert part in text
    assert "fresh processes (chance of a false gain: at most 1%)" in " ".join(text.split())


def test_json_holds_the_whole_result() -> None:
    data = as_json(result(), date="2026-11-28", command=COMMAND)
    text = json.dumps(data, allow_nan=False)
    assert json.loads(text) == data
    assert data["schema"] == "llmperf-tune/1"
    assert data["improved"] is True
    assert data["winner"]["changed"] == {"n_batch": 512, "flash_attn": True, "type_k": "q8_0"}
    assert data["winner"]["settings"]["extra_sha256"].keys() == {"api_key", "rope_freq_base"}
    assert [point["outcome"] for point in data["points"]] == [
        "measured", "lost", "does not fit", "failed", "measured", "measured",
    ]  # fmt: skip
    assert data["confirmed"]["gains"][0]["change"]["low"] == pytest.approx(-0.365)
    assert data["confirmed"]["gains"][2]["change"]["low"] is None
    assert as_json(nothing_found(), date="2026-11-28")["winner"] is None
    assert as_json(result(seconds=float("inf")), date="x")["seconds"] is None


def test_the_page_names_every_key_of_the_json() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tune-results.md").read_text()

    def keys(node: Any) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(keys, node))
        if not isinstance(node, dict):
            return set()
        inside = {key: value for key, value in node.items() if key not in ("settings", "changed")}
        return set(node) | set().union(*map(keys, inside.values()))

    assert {key for key in keys(as_json(result(), date="x")) if f"`{key}`" not in page} == set()
