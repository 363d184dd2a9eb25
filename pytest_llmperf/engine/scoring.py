"""Commands that score text: their worker side, and functions that send them to a client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pytest_llmperf.engine.client import EngineClient
    from pytest_llmperf.engine.token_scores import Ids, TokenScores

#: The operations of the wire protocol that need an engine with ``scores``.
SCORING = frozenset({"vocabulary", "tokenize", "score"})


class Scoring(Protocol):
    """The part of an engine that gives the probabilities of a text's tokens."""

    def vocabulary(self) -> dict[str, Any]:
        """Return ``size``, ``sha256`` (over the tokens) and ``bos`` (begins a text, or None)."""

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of plain text, without a begin-of-text token."""

    def score(
        self, tokens: Sequence[int], first: int, *, top: int = 0, samples: int = 0, at: Any = None
    ) -> TokenScores:
        """Score each token after position ``first``, given all tokens before it.

        The result has ``len(tokens) - 1 - first`` rows, with the log-probabilities of the ``top``
        most likely tokens and of a sample of the others, or of those in ``at``: kept and
        sampled ones, each of shape (rows, tokens).

        Raises:
            EngineError: the tokens do not fit.
        """


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a loaded model.

    Attributes:
        size: number of tokens.
        sha256: digest of all tokens' texts.
        bos: the token that begins a text, or None.
    """

    size: int
    sha256: str
    bos: int | None


def answer_scoring(engine: Any, command: dict[str, Any]) -> Any:
    """Run a scoring command in the worker; return its result as plain JSON types."""
    operation = command["op"]
    if operation == "vocabulary":
        return engine.vocabulary()
    if operation == "tokenize":
        return engine.tokenize(command["text"])
    from pytest_llmperf.engine.token_scores import unpacked

    given = command["at"]
    at = None if given is None else (unpacked(given[0]), unpacked(given[1]))
    scores = engine.score(
        command["tokens"],
        command["first"],
        top=command["top"],
        samples=command["samples"],
        at=at,
    )
    return scores.to_wire()


def vocabulary_of(client: EngineClient) -> Vocabulary:
    """Return the vocabulary of the engine's model.

    Raises:
        EngineError: its process is gone.
    """
    return Vocabulary(**client.ask({"op": "vocabulary"}, "reading its vocabulary"))


def tokenize(client: EngineClient, text: str) -> list[int]:
    """Return the token ids of plain text, without a begin-of-text token.

    Raises:
        EngineError: as ``vocabulary_of``.
    """
    ids: list[int] = client.ask({"op": "tokenize", "text": text}, "tokenizing a text")
    return ids


def score(
    client: EngineClient,
    tokens: Sequence[int],
    first: int,
    *,
    top: int = 0,
    samples: int = 0,
    at: tuple[Ids, Ids] | None = None,
) -> TokenScores:
    """Score each token after position ``first``; see ``Scoring.score``.

    Raises:
        EngineError: as ``vocabulary_of``, or the tokens do not fit into the context.
    """
    from pytest_llmperf.engine.token_scores import TokenScores, packed

    command = {
        "op": "score",
        "tokens": list(tokens),
        "first": first,
        "top": top,
        "samples": samples,
        "at": None if at is None else [packed(at[0]), packed(at[1])],
    }
    return TokenScores.from_wire(client.ask(command, "scoring a text"))
