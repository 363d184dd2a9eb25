"""The generated reference is current, and nothing in it lacks a description."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import docs_reference
import pytest
from docs_configuration import undescribed

from pytest_llmperf.metrics import PERCENTILE_OF, get_metric
from pytest_llmperf.plugin.markers import GOODPUT_LIMITS, MARKERS, METRIC_MARKERS
from pytest_llmperf.variables import INTERNAL, VARIABLES


def test_the_generated_tables_are_current() -> None:
    pages = docs_reference.pages()
    assert len(pages) >= 9
    stale = [
        page.name
        for page in pages
        if docs_reference.rendered(page.read_text(encoding="utf-8"))
        != page.read_text(encoding="utf-8")
    ]
    assert stale == [], "run: python tools/docs_reference.py"


def test_every_table_is_on_a_page() -> None:
    texts = [page.read_text(encoding="utf-8") for page in docs_reference.pages()]
    named = re.findall(r"<!-- generated: (\w+) -->", "".join(texts))
    assert sorted(named) == sorted(docs_reference.TABLES)


def test_every_configuration_key_has_a_description() -> None:
    assert undescribed() == []


@pytest.mark.parametrize("name", sorted(set(METRIC_MARKERS) - {"perf_metric"}))
def test_a_metric_markers_signature_has_its_arguments(name: str) -> None:
    signature = MARKERS[name].partition("): ")[0]
    allowed = {get_metric(name).limit_kind, "tolerance"}
    if name in PERCENTILE_OF:
        allowed.add("percentile")
    if name == "goodput":
        allowed |= GOODPUT_LIMITS.keys()
    assert set(re.findall(r"(\w+)=", signature)) == allowed


def test_troubleshooting_has_every_cause(root: Path) -> None:
    page = (root / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"\|([^|\n]*)\|\n", page))))
    assert docs_reference.CAUSE_TEXTS.keys() - named == set()


def test_every_environment_variable_is_described(root: Path) -> None:
    used: set[str] = set()
    for file in (root / "pytest_llmperf").rglob("*.py"):
        if file.name != "variables.py":
            used |= set(
                re.findall(r'"((?:PYTEST_)?LLMPERF_[A-Z_]*[A-Z])"', file.read_text("utf-8"))
            )
    assert used - set(VARIABLES) - INTERNAL == set()
    assert {"LLMPERF_CACHE_DIR", "LLMPERF_DEVICE_LOCK"} <= used
    assert used >= INTERNAL


def test_something_without_a_description_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = pytest.raises(docs_reference.UndescribedError)
    with monkeypatch.context() as patch, refused as caught:
        patch.setitem(docs_reference.MARKERS, "loudness", "loudness(max=3, how='loud'): how loud.")
        docs_reference.markers()
    assert "argument 'how'" in str(caught.value)
    with monkeypatch.context() as patch, refused as caught:
        patch.delitem(docs_reference.CHECK_TEXTS, "swapping")
        docs_reference.fitness()
    assert "swapping" in str(caught.value)
    with monkeypatch.context() as patch, refused as caught:
        patch.delitem(docs_reference.CAUSE_TEXTS, "batch_small")
        docs_reference.causes()
    assert "batch_small" in str(caught.value)
    with monkeypatch.context() as patch, refused:
        patch.delitem(docs_reference.verdict.MEANINGS, docs_reference.verdict.VerdictKind.PASS)
        docs_reference.verdicts()
    with monkeypatch.context() as patch, refused as caught:
        silent = replace(docs_reference.OWN_METRICS[0], source="")
        patch.setattr(docs_reference, "OWN_METRICS", (silent,))
        docs_reference.metrics()
    assert "tokens_per_sec" in str(caught.value)
    with monkeypatch.context() as patch, refused as caught:
        patch.setattr(docs_reference, "COMMANDS", {**docs_reference.COMMANDS, "doctor": object()})
        docs_reference.commands()
    assert "llmperf doctor" in str(caught.value)


def test_an_option_without_help_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = docs_reference.build_parser()
    parser.set_defaults()
    (commands,) = (a for a in parser._actions if a.dest == "command")
    assert commands.choices is not None
    commands.choices["tune"].add_argument("--silent")  # type: ignore[call-overload]
    monkeypatch.setattr(docs_reference, "build_parser", lambda: parser)
    with pytest.raises(docs_reference.UndescribedError, match=r"llmperf tune: .*--silent"):
        docs_reference.commands()
