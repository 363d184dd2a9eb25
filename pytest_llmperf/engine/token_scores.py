"""Scores of tokens: the probabilities that a model gave to a text, position by position.

Of the whole distribution, only a few log-probabilities are kept, and the total probability of all
others: with a large vocabulary, every position would otherwise take half a megabyte.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ids = NDArray[np.int32]

#: Rows of logits whose exponentials are held in memory at once.
_ROWS = 32
#: Finite logarithm used for a probability that is zero in floating point.
_LOG_TINY = -690.0


@dataclass(frozen=True)
class TokenScores:
    """Scores of consecutive positions, a row each; a row is about the token that follows.

    Attributes:
        nll: negative log-likelihood of the text's next token, nats, shape (positions,).
        best: id of the most likely token, shape (positions,).
        ids: tokens whose log-probabilities are kept, shape (positions, kept).
        logs: their log-probabilities, nats, shape (positions, kept).
        rest: logarithm of the probability of all other tokens together, shape (positions,);
            -inf where there are none.
        sampled: a sample of the other tokens, in proportion to their probability in the
            reference, shape (positions, samples).
        sampled_logs: their log-probabilities, nats, the same shape.
    """

    nll: Floats
    best: Ids
    ids: Ids
    logs: NDArray[np.float32]
    rest: Floats
    sampled: Ids
    sampled_logs: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.nll)

    @classmethod
    def of_logits(
        cls,
        logits: NDArray[np.float32],
        targets: Ids,
        *,
        top: int = 0,
        samples: int = 0,
        at: tuple[Ids, Ids] | None = None,
    ) -> TokenScores:
        """Score positions by their logits, shape (positions, vocabulary).

        Args:
            logits: as the model computed them.
            targets: the tokens that follow, shape (positions,).
            top: how many of the most likely tokens to keep.
            samples: how many of the others to sample.
            at: the kept and the sampled tokens, instead of choosing them.
        """
        import numpy as np

        size = logits.shape[1]
        kept = min(top, size) if at is None else at[0].shape[1]
        parts = []
        for start in range(0, len(logits), _ROWS):
            rows = logits[start : start + _ROWS]
            highest = rows.max(axis=1, keepdims=True)
            shares = np.exp(rows - highest)
            total = shares.sum(axis=1, dtype=np.float64)
            norm = highest[:, 0].astype(np.float64) + np.log(total)
            if at is not None:
                ids = at[0][start : start + _ROWS]
            elif kept == size:
                ids = np.broadcast_to(np.arange(size, dtype=np.int32), rows.shape)
            else:
                order = np.argpartition(rows, size - kept, axis=1)
                ids = order[:, size - kept :].astype(np.int32)
            logs = np.take_along_axis(rows, ids, axis=1).astype(np.float64) - norm[:, None]
            mass = np.take_along_axis(shares, ids, axis=1).sum(axis=1, dtype=np.float64)
            if kept == size:
                rest = np.full(len(rows), -np.inf)
            else:
                left = np.maximum((total - mass) / total, np.exp(_LOG_TINY))
                rest = np.log(left)
            if at is not None:
                sampled = at[1][start : start + _ROWS]
            else:
                sampled = _sample(shares, ids, 0 if kept == size else samples)
            sampled_logs = np.take_along_axis(rows, sampled, axis=1) - norm[:, None]
            true = targets[start : start + _ROWS, None]
            nll = norm - np.take_along_axis(rows, true, axis=1)[:, 0]
            best = rows.argmax(axis=1).astype(np.int32)
            logs, sampled_logs = logs.astype(np.float32), sampled_logs.astype(np.float32)
            parts.append(cls(nll, best, ids, logs, rest, sampled, sampled_logs))
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence[TokenScores]) -> TokenScores:
        """Join scores of consecutive positions."""
        import numpy as np

        return cls(
            **{
                field.name: np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            }
        )

    def rows(self, start: int, stop: int) -> TokenScores:
        """Return the scores of the positions from ``start`` to ``stop``."""
        return TokenScores(
            **{field.name: getattr(self, field.name)[start:stop] for field in fields(self)}
        )

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {field.name: packed(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> TokenScores:
        """Rebuild scores from ``to_wire``.

        Raises:
            KeyError, TypeError, ValueError: the data is not from ``to_wire``.
        """
        return cls(**{field.name: unpacked(data[field.name]) for field in fields(cls)})


def _sample(shares: NDArray[np.float32], kept: Ids, samples: int) -> Ids:
    """Return a systematic sample of the tokens outside ``kept``, in proportion to their shares.

    The same every time: the points are the middles of equal parts of the shares' sum.
    """
    import numpy as np

    sampled = np.zeros((len(shares), samples), dtype=np.int32)
    if not samples:
        return sampled
    others = shares.astype(np.float64)
    np.put_along_axis(others, kept, 0.0, axis=1)
    sums = others.cumsum(axis=1)
    points = (np.arange(samples) + 0.5) / samples
    for row, row_sums in enumerate(sums):
        places = np.searchsorted(row_sums, points * row_sums[-1], side="right")
        sampled[row] = np.minimum(places, shares.shape[1] - 1)
    return sampled


def packed(array: NDArray[Any]) -> dict[str, Any]:
    """Return an array as plain JSON types: type, shape, and its bytes as base64."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    data = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(array.shape), "data": data}


def unpacked(data: dict[str, Any]) -> NDArray[Any]:
    """Rebuild an array from ``packed``.

    Raises:
        KeyError, TypeError, ValueError: the data is not from ``packed``.
    """
    import numpy as np

    flat: NDArray[Any] = np.frombuffer(base64.b64decode(data["data"]), np.dtype(data["dtype"]))
    shaped: NDArray[Any] = flat.reshape(data["shape"])
    return shaped
