"""Scores a text with llama.cpp: the probabilities of its tokens, from the model's own logits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import llama_cpp
import numpy as np

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.token_scores import TokenScores

if TYPE_CHECKING:
    from pytest_llmperf.engine.token_scores import Ids

#: Maximum size of one batch's logits: with a large vocabulary, a full batch takes gigabytes.
_LOGITS_BYTES = 256 * 2**20


def vocabulary_of(vocab: Any) -> dict[str, Any]:
    """Return the vocabulary's size, a digest of its tokens, and its begin-of-text token.

    ``bos`` is None if the model doesn't want one.
    """
    size = int(llama_cpp.llama_vocab_n_tokens(vocab))
    digest = hashlib.sha256()
    for token in range(size):
        text = llama_cpp.llama_vocab_get_text(vocab, token) or b""
        digest.update(b"%d " % len(text) + text)
    begins = llama_cpp.llama_vocab_get_add_bos(vocab)
    bos = int(llama_cpp.llama_vocab_bos(vocab)) if begins else None
    return {"size": size, "sha256": digest.hexdigest(), "bos": bos}


def score_tokens(
    ctx: Any,
    tokens: Sequence[int],
    first: int,
    n_vocab: int,
    n_batch: int,
    failed: Callable[[int], str],
    *,
    top: int = 0,
    samples: int = 0,
    at: tuple[Ids, Ids] | None = None,
) -> TokenScores:
    """Evaluate tokens in an empty context, and score each but the last from ``first`` on.

    Position i is scored by the token at i + 1, so that the result has
    ``len(tokens) - 1 - first`` rows.

    Args:
        ctx: llama.cpp's context, whose memory is empty.
        tokens: at most as many as the context holds.
        first: the first position to score.
        n_vocab: size of the vocabulary.
        n_batch: the largest number of tokens to submit at once.
        failed: returns the error text for a status of ``llama_decode``.
        top, samples, at: as for ``TokenScores.of_logits``.

    Raises:
        EngineError: llama.cpp could not evaluate them.
    """
    size = max(1, min(n_batch, _LOGITS_BYTES // (4 * n_vocab)))
    targets = np.asarray(tokens, dtype=np.int32)
    parts: list[TokenScores] = []
    batch = llama_cpp.llama_batch_init(size, 0, 1)
    try:
        for start in range(0, len(tokens) - 1, size):
            count = min(size, len(tokens) - 1 - start)
            wanted = [position for position in range(start, start + count) if position >= first]
            _fill(batch, tokens[start : start + count], start, first)
            status = llama_cpp.llama_decode(ctx, batch)
            if status != 0:
                raise EngineError(failed(status))
            llama_cpp.llama_synchronize(ctx)
            if not wanted:
                continue
            # One row for each position that asked for logits, in their order.
            pointer = llama_cpp.llama_get_logits(ctx)
            logits = np.ctypeslib.as_array(pointer, shape=(len(wanted), n_vocab))
            rows = slice(wanted[0] - first, wanted[-1] + 1 - first)
            chosen = None if at is None else (at[0][rows], at[1][rows])
            following = targets[wanted[0] + 1 : wanted[-1] + 2]
            parts.append(
                TokenScores.of_logits(logits, following, top=top, samples=samples, at=chosen)
            )
    finally:
        llama_cpp.llama_batch_free(batch)
    return TokenScores.joined(parts)


def _fill(batch: Any, tokens: Sequence[int], start: int, first: int) -> None:
    batch.n_tokens = len(tokens)
    for index, token in enumerate(tokens):
        batch.token[index] = token
        batch.pos[index] = start + index
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = 0
        batch.logits[index] = start + index >= first
