"""The evaluated tokens in a llama.cpp context, and how many of them a prompt can reuse.

A plain KV cache can forget any number of its last positions. One with a sliding window has dropped
old positions; a recurrent state (Mamba, the convolutions of LFM2) holds only the last position and
can't continue from an earlier one. So llama.cpp is asked what the memory holds.
Source: llama.cpp's include/llama.h (``llama_memory_seq_*``) and src/llama-hparams.cpp
(``is_masked_swa``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llama_cpp

#: The only sequence that an engine uses.
_SEQUENCE = 0


class ContextMemory:
    """The memory of one context, and the tokens that the last request left in it."""

    def __init__(self, model: Any, ctx: Any) -> None:
        self._memory = llama_cpp.llama_get_memory(ctx)
        self._window = int(llama_cpp.llama_model_n_swa(model))
        # Older packages can't recognize a hybrid; its state is then kept only to continue it.
        hybrid = getattr(llama_cpp, "llama_model_is_hybrid", llama_cpp.llama_model_is_recurrent)
        self._recurs = bool(llama_cpp.llama_model_is_recurrent(model) or hybrid(model))
        self._tokens: list[int] = []

    def clear(self) -> None:
        """Forget everything."""
        llama_cpp.llama_memory_clear(self._memory, False)
        self._tokens = []

    def note_tokens(self, tokens: Sequence[int]) -> None:
        """Note the tokens, from position 0, that later requests may reuse; memory may hold more."""
        self._tokens = list(tokens)

    def forget_rest(self, evaluate: Callable[[Sequence[int]], None]) -> None:
        """Forget everything evaluated beyond the noted tokens.

        Args:
            evaluate: fills an empty memory; used if the memory can't forget only the end.
        """
        noted = self._tokens
        if noted and self._held() > len(noted) and not self._forget_from(len(noted)):
            self.clear()
            evaluate(noted)
            self.note_tokens(noted)

    def keep_prefix(self, prompt: Sequence[int]) -> int:
        """Keep the longest common prefix with ``prompt``, forget the rest; return its length.

        At least one token is left to evaluate, to have logits to sample from.
        """
        common = 0
        for ours, theirs in zip(self._tokens, prompt[:-1], strict=False):
            if ours != theirs:
                break
            common += 1
        held = self._held()
        # If the prompt only continues, there is nothing to forget, and any window is complete.
        if not common or common > held or (common < held and not self._can_go_back_to(common)):
            self.clear()
            return 0
        return common

    def _can_go_back_to(self, length: int) -> bool:
        """Forget what follows the first ``length`` tokens, if evaluation can continue there."""
        if self._window and self._recurs:
            # llama.cpp reports such a memory's state only, not its window.
            return False
        if not self._recurs:
            oldest = llama_cpp.llama_memory_seq_pos_min(self._memory, _SEQUENCE)
            needed = max(0, length - self._window + 1) if self._window else 0
            if oldest > needed:
                return False
        return self._forget_from(length)

    def _forget_from(self, position: int) -> bool:
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, _SEQUENCE, position, -1))

    def _held(self) -> int:
        """Return how many positions have been evaluated, from 0 on."""
        return int(llama_cpp.llama_memory_seq_pos_max(self._memory, _SEQUENCE)) + 1
