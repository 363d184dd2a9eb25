"""Material to measure quality on: a text, or a test's prompts and the reference's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.quality.errors import QualityError

#: A text of this package, some 2,000 tokens of plain English.
SHIPPED_TEXT = Path(__file__).with_name("text.txt")
#: Tokens of a text that are evaluated together, as llama-perplexity does by default.
CHUNK = 512
#: Minimum number of tokens; a shorter text says nothing.
MIN_TOKENS = 64
#: Number of a text's chunks that are continued greedily, and of tokens to continue each by.
_CONTINUED, _CONTINUATION = 8, 32


@dataclass(frozen=True)
class Text:
    """A plain text; it is tokenized by the reference and cut into chunks.

    Attributes:
        text: the text.
        name: its name in messages.
    """

    text: str
    name: str = "the text"

    @classmethod
    def of_file(cls, file: Path) -> Text:
        """Read a text.

        Raises:
            QualityError: it can't be read, or is no UTF-8.
        """
        try:
            return cls(file.read_text(encoding="utf-8"), file.name)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise QualityError(f"the text {file} can't be read: {reason}") from None
        except UnicodeDecodeError:
            raise QualityError(f"the text {file} is not UTF-8; save it as UTF-8") from None


@dataclass(frozen=True)
class Prompt:
    """A prompt that the reference answers; prompt and answer are scored.

    Attributes:
        tokens: the prompt's token ids.
        output_tokens: maximum number of tokens in the answer.
    """

    tokens: tuple[int, ...]
    output_tokens: int


@dataclass(frozen=True)
class Passage:
    """Tokens to score.

    Attributes:
        tokens: the token ids, all of which are evaluated.
        first: the first position whose prediction is scored.
    """

    tokens: tuple[int, ...]
    first: int


@dataclass(frozen=True)
class Answer:
    """A greedy continuation.

    Attributes:
        prompt: the tokens before it.
        tokens: the continuation; -1 at its end if the model ended it.
        longest: maximum number of tokens that it could have.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    longest: int

    def agreement(self, other: Sequence[int]) -> int:
        """Return the number of leading tokens that another continuation shares with this one."""
        return _common_length(self.tokens, other)


def chunks_of(tokens: Sequence[int], bos: int | None, n_ctx: int, name: str) -> list[Passage]:
    """Cut a text's tokens into chunks, of which the second half is scored.

    The first half is context. A shorter rest is left out, unless it is all there is. The
    convention is that of llama-perplexity: a token that begins a text replaces the first one of
    every chunk.

    Raises:
        QualityError: the text is too short.
    """
    if bos is not None:
        tokens = [bos, *tokens]
    if len(tokens) < MIN_TOKENS:
        raise QualityError(
            f"{name} has {len(tokens)} tokens, and quality needs at least {MIN_TOKENS}; name a "
            "longer text"
        )
    size = min(CHUNK, n_ctx, len(tokens))
    chunks = []
    for start in range(0, len(tokens) - size + 1, size):
        chunk = list(tokens[start : start + size])
        if bos is not None:
            chunk[0] = bos
        chunks.append(Passage(tuple(chunk), size // 2))
    return chunks


def continued(chunks: Sequence[Passage]) -> list[Prompt]:
    """Return prompts to continue greedily: the context of some chunks, evenly spread."""
    step = max(1, -(-len(chunks) // _CONTINUED))
    return [
        Prompt(chunk.tokens[: chunk.first], min(_CONTINUATION, len(chunk.tokens) - chunk.first))
        for chunk in chunks[::step]
    ]


def without_repeats(sequences: Sequence[Sequence[int]]) -> list[Passage]:
    """Return token sequences to score; a beginning that two of them share is scored only once."""
    passages: list[Passage] = []
    for tokens in sequences:
        first = max((_common_length(tokens, passage.tokens) for passage in passages), default=0)
        if len(tokens) - 1 - first > 0:
            passages.append(Passage(tuple(tokens), first))
    return passages


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((position for position, (a, b) in pairs if a != b), min(len(first), len(second)))
