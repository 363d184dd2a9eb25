"""Builds llama.cpp's sampler chain for a request, in the order llama-cpp-python uses.

The chain is made with llama.cpp's public C functions, so that end-of-sequence
tokens can be banned inside it (``llama_sampler_init_logit_bias``), which
llama-cpp-python's own chain has no place for.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import llama_cpp
import numpy as np

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.request import SAMPLING_DEFAULTS, Request

_PENALTY_LAST_N = 64
_MIROSTAT_M = 100


class SamplerChain:
    """A sampler for one request; close it when the request is done.

    Args:
        model: llama.cpp's model pointer.
        request: the request to sample for.
        seed: the request's seed, already resolved.
        eog_tokens: the vocabulary's end-of-generation tokens.
    """

    def __init__(self, model: Any, request: Request, seed: int, eog_tokens: Sequence[int]) -> None:
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        params = llama_cpp.llama_sampler_chain_default_params()
        self.pointer = llama_cpp.llama_sampler_chain_init(params)
        try:
            self._fill(request, seed, eog_tokens)
        except BaseException:
            self.close()
            raise

    def _fill(self, request: Request, seed: int, eog_tokens: Sequence[int]) -> None:
        value = {**SAMPLING_DEFAULTS, **request.sampling}
        self._banned = frozenset(eog_tokens if request.ignore_eos else ())
        n_vocab = llama_cpp.llama_vocab_n_tokens(self._vocab)
        if request.ignore_eos and eog_tokens:
            bias = (llama_cpp.llama_logit_bias * len(eog_tokens))()
            for slot, token in zip(bias, eog_tokens, strict=True):
                slot.token, slot.bias = token, -math.inf
            self._add(llama_cpp.llama_sampler_init_logit_bias(n_vocab, len(bias), bias))
        penalties = (
            float(value["repeat_penalty"]),
            float(value["frequency_penalty"]),
            float(value["presence_penalty"]),
        )
        if penalties != (1.0, 0.0, 0.0):
            self._add(self._penalties(n_vocab, penalties))
        if request.grammar is not None:
            grammar = llama_cpp.llama_sampler_init_grammar(
                self._vocab, request.grammar.encode(), b"root"
            )
            if not grammar:
                raise EngineError(
                    "grammar: llama.cpp could not parse it (GBNF with a rule named 'root' expected)"
                )
            self._add(grammar)
        temperature = float(value["temperature"])
        self._greedy = (
            temperature == 0.0 and penalties == (1.0, 0.0, 0.0) and request.grammar is None
        )
        if temperature == 0.0:
            self._add(llama_cpp.llama_sampler_init_greedy())
        elif value["mirostat_mode"] == 1:
            self._add(
                llama_cpp.llama_sampler_init_mirostat(
                    n_vocab, seed, value["mirostat_tau"], value["mirostat_eta"], _MIROSTAT_M
                )
            )
        elif value["mirostat_mode"] == 2:
            self._add(
                llama_cpp.llama_sampler_init_mirostat_v2(
                    seed, value["mirostat_tau"], value["mirostat_eta"]
                )
            )
        else:
            self._add(llama_cpp.llama_sampler_init_top_k(int(value["top_k"])))
            self._add(llama_cpp.llama_sampler_init_typical(value["typical_p"], 1))
            self._add(llama_cpp.llama_sampler_init_top_p(value["top_p"], 1))
            self._add(llama_cpp.llama_sampler_init_min_p(value["min_p"], 1))
            self._add(llama_cpp.llama_sampler_init_temp(temperature))
            self._add(llama_cpp.llama_sampler_init_dist(seed))

    @staticmethod
    def _penalties(n_vocab: int, penalties: tuple[float, float, float]) -> Any:
        create = llama_cpp.llama_sampler_init_penalties
        # Newer llama.cpp wants the size of the vocabulary first.
        if len(create.argtypes) == 5:
            return create(n_vocab, _PENALTY_LAST_N, *penalties)
        return create(_PENALTY_LAST_N, *penalties)

    def _add(self, sampler: Any) -> None:
        llama_cpp.llama_sampler_chain_add(self.pointer, sampler)

    def picker(self, ctx: Any) -> Callable[[], int]:
        """Return a function that picks the next token from the logits of ``ctx``'s last batch.

        It waits for the device before it reads them (``llama_get_logits_ith`` does), and looks
        at the logit of the token it picks; ``check`` looks at all of them.

        Raises:
            EngineError, when called: that logit is not a finite number.
        """
        if self._greedy:
            return self._greedy_picker(ctx)
        sample, chain, get = llama_cpp.llama_sampler_sample, self.pointer, _logits_address()
        size = ctypes.sizeof(ctypes.c_float)

        def pick() -> int:
            token = int(sample(chain, ctx, -1))
            logit = ctypes.c_float.from_address(get(ctx, -1) + size * token).value
            if not math.isfinite(logit):
                raise not_a_number(logit)
            return token

        return pick

    def _greedy_picker(self, ctx: Any) -> Callable[[], int]:
        """Return a function that picks the largest logit, without copying the logits.

        ``llama_sampler_sample`` first copies the vocabulary into structs of three
        fields: for 49,000 entries that is 1.4% of a decode at 90 tokens/s.
        """
        get, banned = _logits_address(), sorted(self._banned)
        address, logits = 0, np.empty(0, dtype=np.float32)

        def pick() -> int:
            nonlocal address, logits
            current = get(ctx, -1)
            if current != address:
                address, logits = current, self._logits(current)
            token = int(logits.argmax())
            if token in self._banned:
                logits[banned] = -math.inf
                token = int(logits.argmax())
            # If any is NaN, argmax returns the first of them.
            if not math.isfinite(logit := logits.item(token)):
                raise not_a_number(logit)
            return token

        return pick

    def check(self, ctx: Any) -> None:
        """Check all logits of ``ctx``'s last batch; too slow for every token.

        Raises:
            EngineError: one of them is not a number, or infinite.
        """
        if not math.isfinite(highest := self._logits(_logits_address()(ctx, -1)).max()):
            raise not_a_number(highest)

    def _logits(self, address: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the logits that lie at an address, one for each token of the vocabulary."""
        row = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
        shape = (llama_cpp.llama_vocab_n_tokens(self._vocab),)
        return np.ctypeslib.as_array(row, shape=shape)

    def close(self) -> None:
        """Free the chain and every sampler in it."""
        if self.pointer:
            llama_cpp.llama_sampler_free(self.pointer)
            self.pointer = None


def not_a_number(logit: float) -> EngineError:
    """Return the error of a model whose logits are not finite."""
    return EngineError(
        f"the model's output is not a number (a logit is {logit:g}), so its tokens are "
        "meaningless: the file's weights are damaged, or this build miscalculates; "
        "compare the file's SHA-256 with its source, or try another quantization, "
        "llm.n_gpu_layers: 0 or llm.type_k and llm.type_v: f16"
    )


def _logits_address() -> Callable[[Any, int], int]:
    """Return ``llama_get_logits_ith`` as a function to a plain address.

    Its declared result, a typed pointer, costs an object and 10 us at every token.
    """
    entry = ctypes.cast(llama_cpp.llama_get_logits_ith, ctypes.c_void_p).value
    prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
    return prototype(entry or 0)
