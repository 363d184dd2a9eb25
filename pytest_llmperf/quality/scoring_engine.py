"""One side of a measurement: an engine that scores passages and continues prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.request import build_request
from pytest_llmperf.engine.scoring import Vocabulary, score, tokenize, vocabulary_of
from pytest_llmperf.quality.errors import QualityError
from pytest_llmperf.quality.passages import (
    Answer,
    Passage,
    Prompt,
    Text,
    chunks_of,
    continued,
    without_repeats,
)

if TYPE_CHECKING:
    from pytest_llmperf.engine.launch import LaunchSpec
    from pytest_llmperf.engine.token_scores import TokenScores

#: Ends a greedy continuation that the model ended itself; no token has this id.
_END = -1


@dataclass(frozen=True)
class ReferenceScores:
    """The reference's scores and answers for some material.

    Attributes:
        vocabulary: its model's vocabulary.
        passages: the scored passages.
        scores: each passage's scores, with the log-probabilities of the most likely tokens.
        answers: its greedy continuations.
    """

    vocabulary: Vocabulary
    passages: tuple[Passage, ...]
    scores: tuple[TokenScores, ...]
    answers: tuple[Answer, ...]


class ScoringEngine:
    """One engine process, started when it is first needed; a context manager that ends it.

    Args:
        spec: how to start it; its engine has ``scores``.
        start: function that starts it.
        say: called with a line before anything that takes long.
    """

    def __init__(
        self,
        spec: LaunchSpec,
        start: Callable[[LaunchSpec], EngineClient],
        say: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._start = start
        self._say = say
        self._client: EngineClient | None = None
        self._vocabulary: Vocabulary | None = None

    @property
    def name(self) -> str:
        """The model's file without its folder."""
        return Path(str(self._spec.config.get("model_path") or self._spec.name)).name

    def __enter__(self) -> ScoringEngine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def score_as_reference(
        self, material: Sequence[Prompt | Text], top: int, samples: int
    ) -> ReferenceScores:
        """Score material as the reference.

        Raises:
            QualityError: there is nothing to score.
            EngineError: the engine can't be loaded, or can't evaluate the material.
        """
        client, vocabulary = self._ready()
        n_ctx = int(self._spec.config["n_ctx"])
        passages: list[Passage] = []
        prompts: list[Prompt] = []
        for item in material:
            if isinstance(item, Text):
                chunks = chunks_of(tokenize(client, item.text), vocabulary.bos, n_ctx, item.name)
                passages += chunks
                prompts += continued(chunks)
        answers = [self._answer(prompt) for prompt in prompts]
        own = [self._answer(p) for p in dict.fromkeys(material) if isinstance(p, Prompt)]
        passages += without_repeats(
            [(*a.prompt, *(token for token in a.tokens if token != _END)) for a in own]
        )
        if not passages:
            raise QualityError("there is nothing to score: no prompt has more than one token")
        self._say(f"scoring {_tokens(passages)} with the reference {self.name}")
        scores = [score(client, p.tokens, p.first, top=top, samples=samples) for p in passages]
        return ReferenceScores(vocabulary, tuple(passages), tuple(scores), (*answers, *own))

    def score_as_candidate(
        self, reference: ReferenceScores, name: str
    ) -> tuple[list[TokenScores], list[tuple[int, ...]]]:
        """Score the same passages as the candidate, and continue the same prompts.

        ``name``: the reference's name, for messages.

        Raises:
            QualityError: its vocabulary is not the reference's.
            EngineError: as ``score_as_reference``.
        """
        client, vocabulary = self._ready()
        other = reference.vocabulary
        if (vocabulary.size, vocabulary.sha256) != (other.size, other.sha256):
            sizes = f"has {vocabulary.size:,} tokens, the reference's {other.size:,}"
            if vocabulary.size == other.size:
                sizes = f"also has {vocabulary.size:,} tokens, but different ones"
            raise QualityError(
                f"{self.name} can't be compared with the reference {name}: its vocabulary "
                f"{sizes}; name another quantization of the same model as the reference"
            )
        self._say(f"scoring {_tokens(reference.passages)} with {self.name}")
        scores = [
            score(client, passage.tokens, passage.first, at=(theirs.ids, theirs.sampled))
            for passage, theirs in zip(reference.passages, reference.scores, strict=True)
        ]
        answers = [self._answer(Prompt(a.prompt, a.longest)).tokens for a in reference.answers]
        return scores, answers

    def _answer(self, prompt: Prompt) -> Answer:
        """Continue a prompt greedily, to the model's own end or the longest answer."""
        if prompt.output_tokens < 1:
            return Answer(prompt.tokens, (), 0)
        client, _ = self._ready()
        request = build_request(
            prompt=list(prompt.tokens), max_tokens=prompt.output_tokens, ignore_eos=False
        )
        generation = client.request(request)
        ended = (_END,) if generation.finish_reason == "eos" else ()
        return Answer(prompt.tokens, (*generation.token_ids, *ended), prompt.output_tokens)

    def _ready(self) -> tuple[EngineClient, Vocabulary]:
        if self._client is None:
            self._client = self._start(self._spec)
        if self._vocabulary is None:
            self._vocabulary = vocabulary_of(self._client)
        return self._client, self._vocabulary


def _tokens(passages: Sequence[Passage]) -> str:
    return f"{sum(len(passage.tokens) for passage in passages):,} tokens"
