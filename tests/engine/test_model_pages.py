"""Two sides that map different model files, one of them in small pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import tiny_llama

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.engine.client import LaunchSpec
from pytest_llmperf.session import model_pages
from pytest_llmperf.session.model_pages import page_notes


def spec(model: Path, **settings: object) -> LaunchSpec:
    config = LlamaCppConfig.model_validate(settings).resolved(model)
    return LaunchSpec("llama_cpp", config)


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> dict[Path, float | None]:
    """What the system says of each file."""
    found: dict[Path, float | None] = {tiny_llama(): 0.9, tiny_llama(seed=1): 0.0}
    monkeypatch.setattr(model_pages, "large_pages", found.get)
    return found


def test_files_in_other_pages_are_told(shares: dict[Path, float | None]) -> None:
    one, other = map(spec, shares)
    (note,) = page_notes(one, other)
    assert note.startswith("0% of the base's model file and 90% of the candidate's lie in memory")
    assert "copy both files, and compare again" in note


@pytest.mark.parametrize("share", [0.8, None])
def test_pages_that_are_alike_or_unknown_are_not(
    shares: dict[Path, float | None], share: float | None
) -> None:
    one, other = shares
    shares[other] = share
    assert page_notes(spec(one), spec(other)) == []


def test_only_two_mapped_files_can_differ(shares: dict[Path, float | None]) -> None:
    one, other = shares
    assert page_notes(spec(one), None) == []
    assert page_notes(spec(one), spec(one, n_batch=128)) == []
    assert page_notes(spec(one), spec(other, use_mmap=False)) == []
