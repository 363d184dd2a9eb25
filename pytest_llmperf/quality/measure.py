"""Measures the quality of a configuration's answers against a reference.

    result = quality_of(spec, reference, [Text.of_file(SHIPPED_TEXT)])
    result.kl, result.kl_interval, result.top1, result.perplexity_increase

One process of each side is enough: with the same build, model and settings the figures are the
same every time. The two never run at once, so the device needs room for one only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.config.embedded import cache_dir
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.quality.errors import QualityError
from pytest_llmperf.quality.figures import QualityResult, figures_of
from pytest_llmperf.quality.identity import engine_identity, key_of, material_identity
from pytest_llmperf.quality.scoring_engine import ReferenceScores, ScoringEngine
from pytest_llmperf.quality.store import QualityStore

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmperf.engine.launch import LaunchSpec
    from pytest_llmperf.quality.passages import Prompt, Text

    Material = Sequence[Prompt | Text]

#: Number of log-probabilities that are kept for every position.
TOP = 256
#: Number of other tokens that are sampled at every position.
SAMPLES = 64


def quality_of(
    spec: LaunchSpec,
    reference: LaunchSpec,
    sequences: Material,
    *,
    top: int = TOP,
    folder: Path | None = None,
    start: Callable[[LaunchSpec], EngineClient] = EngineClient.start,
    say: Callable[[str], None] = lambda _: None,
) -> QualityResult:
    """Measure a configuration's quality on some material.

    Args:
        spec: the candidate.
        reference: the side to compare with; its model has the same vocabulary.
        sequences: texts and prompts.
        top: how many of the reference's most likely tokens to compare at each position; the
            others are sampled, so the divergence is exact only for the whole vocabulary.
        folder: where scores and results are kept; None for the cache folder.
        start: starts an engine's process.
        say: called with a line before anything that takes long.

    Raises:
        QualityError: the two can't be compared, an engine gives no probabilities, or there is
            nothing to compare.
        EngineError: an engine can't be loaded.
        OSError: a file of a model can't be read.
    """
    (result,) = qualities_of(
        spec, reference, [sequences], top=top, folder=folder, start=start, say=say
    )
    return result


def qualities_of(
    spec: LaunchSpec,
    reference: LaunchSpec,
    materials: Sequence[Material],
    *,
    top: int = TOP,
    folder: Path | None = None,
    start: Callable[[LaunchSpec], EngineClient] = EngineClient.start,
    say: Callable[[str], None] = lambda _: None,
) -> list[QualityResult]:
    """Measure the quality on each of several materials, with one process of each side.

    Arguments and errors are those of ``quality_of``.
    """
    for one in (reference, spec):
        if not one.kind.scores:
            raise QualityError(
                f"quality can't be measured: the engine {one.engine!r} reports no probabilities; "
                "set llm.engine: llama_cpp"
            )
    store = QualityStore(folder or cache_dir(os.environ) / "quality")
    theirs, ours = engine_identity(reference), engine_identity(spec)
    keys = [key_of(theirs, material_identity(material), top, SAMPLES) for material in materials]
    is_known = theirs is not None
    results: dict[int, QualityResult] = {}
    if is_known and ours is not None:
        for number, key in enumerate(keys):
            if stored := store.load_result(key_of(key, ours)):
                results[number] = replace(stored, from_cache=True)
    missing = [number for number in range(len(materials)) if number not in results]
    scores: dict[int, ReferenceScores] = {}
    with ScoringEngine(reference, start, say) as side:
        name = side.name
        for number in missing:
            scored = store.load_reference(keys[number]) if is_known else None
            if scored is None:
                scored = side.score_as_reference(materials[number], top, SAMPLES)
                if is_known:
                    store.save_reference(keys[number], scored)
            scores[number] = scored
    with ScoringEngine(spec, start, say) as side:
        for number in missing:
            scored = scores[number]
            own_scores, answers = side.score_as_candidate(scored, name)
            pairs = list(zip(scored.scores, own_scores, strict=True))
            result = figures_of(pairs, list(zip(scored.answers, answers, strict=True)))
            if is_known and ours is not None:
                store.save_result(key_of(keys[number], ours), result)
            results[number] = result
        candidate = side.name
    notes = tuple(store.notes)
    return [
        replace(results[number], reference=name, candidate=candidate, notes=notes)
        for number in range(len(materials))
    ]
