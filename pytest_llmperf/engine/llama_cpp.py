"""The llama.cpp engine, through llama-cpp-python.

Loads with ``llama_cpp.Llama`` and runs its own token loop over llama.cpp's
public C functions, for three reasons: every token's arrival time is read after
the device has finished (``llama_synchronize``); ``Llama.generate`` serves a repeated
prompt from the KV cache, so that its first-token time means nothing; and
``create_completion`` detokenizes the whole text again for each token and holds
text back for stop strings.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import io
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llama_cpp

from pytest_llmperf.config.gguf import model_files
from pytest_llmperf.engine.base import Pause, TokenSink
from pytest_llmperf.engine.context_room import check_context
from pytest_llmperf.engine.errors import EngineError, EngineLoadError, with_log_tail
from pytest_llmperf.engine.generation import FinishReason, Generation
from pytest_llmperf.engine.installed import installed_backend
from pytest_llmperf.engine.llama_ability import why_no_text
from pytest_llmperf.engine.llama_arguments import FileName, llama_arguments
from pytest_llmperf.engine.llama_memory import ContextMemory
from pytest_llmperf.engine.llama_model import ModelKeeper
from pytest_llmperf.engine.llama_prompt import PromptingLlama, prepare_templates, tokenize
from pytest_llmperf.engine.llama_sampler import SamplerChain
from pytest_llmperf.engine.load_facts import read_load_facts
from pytest_llmperf.engine.load_hint import load_hint
from pytest_llmperf.engine.load_report import is_report_line, read_load_report
from pytest_llmperf.engine.model_reads import read_model_reads
from pytest_llmperf.engine.planted import Delay
from pytest_llmperf.engine.request import Request
from pytest_llmperf.system_path import shown_path
from pytest_llmperf.timeline import Timeline

if TYPE_CHECKING:
    from pytest_llmperf.engine.token_scores import TokenScores

_PIECE_BYTES = 256
_GGML_CONT = 5
_REFUSED_ADAPTER = re.compile(r"llama_adapter_lora_init\S*: failed to").search


def _reset_log() -> None:
    """Reset llama.cpp's log callback, which would otherwise point to a freed function."""
    llama_cpp.llama_log_set(llama_cpp.llama_log_callback(), ctypes.c_void_p(0))


class LlamaCppEngine:
    """One model in one llama.cpp context.

    Args:
        config: the resolved ``llm`` section: ``model_path`` is a file, thread
            counts are integers.
        delay: a slowdown planted in the token loop.

    Raises:
        EngineLoadError: with llama.cpp's last log lines and a hint, or with the reason why the
            model generates no text.
    """

    def __init__(self, config: dict[str, Any], delay: Delay | None = None) -> None:
        self._delay = delay
        self._log: list[str] = []
        self._keeper = ModelKeeper()
        self._log_callback = llama_cpp.llama_log_callback(self._on_log)
        llama_cpp.llama_log_set(self._log_callback, ctypes.c_void_p(0))
        try:
            prepare_templates()
            self._open(config)
        except BaseException:
            _reset_log()
            raise

    def _open(self, config: dict[str, Any]) -> None:
        """Create a context with these settings; load the model first unless it is loaded."""
        self._config = config
        path = str(config["model_path"])
        try:
            # Without verbose, llama-cpp-python closes stderr while it loads, and a crash leaves no
            # message. Its own Python-level output (the whole chat template) is dropped.
            with contextlib.redirect_stderr(io.StringIO()), self._keeper.reusing_model(self._log):
                self._llm = PromptingLlama(FileName(path), verbose=True, **llama_arguments(config))
            if refused := next(filter(_REFUSED_ADAPTER, self._log), ""):
                # llama-cpp-python goes on without the adapter, and crashes at the first token.
                raise RuntimeError(refused)
        except Exception as error:
            hint = load_hint(path, self._log, error, config.get("extra", {}))
            text = f"llama.cpp could not load {shown_path(path)}: {error}"
            raise EngineLoadError(with_log_tail(text, self._log, hint)) from error
        self._ctx = self._llm.ctx
        if reason := why_no_text(self._llm.model, self._ctx, config, self._log):
            raise EngineLoadError(f"{shown_path(path)} can't generate text: {reason}")
        self._memory = ContextMemory(self._llm.model, self._ctx)
        self._vocab = llama_cpp.llama_model_get_vocab(self._llm.model)
        self._eog = [
            token
            for token in range(self._llm.n_vocab())
            if llama_cpp.llama_vocab_is_eog(self._vocab, token)
        ]

    def _on_log(self, level: int, text: bytes, _: Any) -> None:
        line = text.decode("utf-8", "replace").rstrip("\n")
        if level == _GGML_CONT and self._log:
            self._log[-1] += line
        elif is_report_line(level, line):
            self._log.append(line)
            # After a crash, only lines already written to stderr remain.
            os.write(2, line.encode("utf-8", "replace") + b"\n")

    def info(self) -> dict[str, Any]:
        """Return what llama.cpp loaded, in the fields of EngineInfo."""
        metadata, model = self._llm.metadata, self._llm.model
        # Not llama_supports_gpu_offload: its answer depends on the visible devices, and it
        # takes every build with RPC for one with GPU code.
        supports_gpu = installed_backend() != "cpu"
        n_layer = int(llama_cpp.llama_model_n_layer(model))
        utilization = read_load_report(
            self._log,
            asked=self._config["n_gpu_layers"],
            supports_gpu=supports_gpu,
            n_layer=n_layer,
        )
        description = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(model, description, len(description))
        path = Path(self._config["model_path"])
        quantization = next(
            (line.split("=")[1].strip() for line in self._log if "file type   =" in line), "unknown"
        )
        return {
            "engine": "llama_cpp",
            "engine_version": llama_cpp.__version__,
            "build_flags": llama_cpp.llama_print_system_info().decode().strip(),
            "supports_gpu": supports_gpu,
            "model_name": shown_path(path.stem),
            "model_path": shown_path(path),
            "model_title": metadata.get("general.name", shown_path(path.stem)),
            "model_description": description.value.decode("utf-8", "replace"),
            "architecture": metadata.get("general.architecture", "unknown"),
            "quantization": quantization,
            "file_bytes": sum(file.stat().st_size for file in model_files(path)),
            "model_bytes": int(llama_cpp.llama_model_size(model)),
            "parameters": int(llama_cpp.llama_model_n_params(model)),
            "n_layers": n_layer,
            "n_ctx": self._llm.n_ctx(),
            "n_ctx_train": int(llama_cpp.llama_model_n_ctx_train(model)),
            "n_vocab": self._llm.n_vocab(),
            "n_batch": self._llm.n_batch,
            "n_ubatch": int(llama_cpp.llama_n_ubatch(self._ctx)),
            "n_threads": self._llm.n_threads,
            "n_threads_batch": self._llm.n_threads_batch,
            **read_load_facts(self._log),
            "chat_format": self._llm.chat_format,
            "gpu": utilization.to_wire(),
            "reads": read_model_reads(path, self._log, n_layer, self._config).to_wire(),
        }

    def configure(self, config: dict[str, Any]) -> None:
        """Replace the context by one with other settings; the model stays loaded.

        Raises:
            EngineLoadError: llama.cpp can't create such a context. The engine then has none until
                another call succeeds.
        """
        self._llm.close()
        del self._log[self._keeper.log_lines :]
        self._open(config)

    def reset(self) -> None:
        """Empty the KV cache, or the model's other memory."""
        self._memory.clear()

    def close(self) -> None:
        """Free context and model; one engine lives in a process at a time."""
        try:
            self._llm.close()
            self._keeper.free()
        finally:
            _reset_log()

    def vocabulary(self) -> dict[str, Any]:
        """Return the vocabulary's size and digest, and its begin-of-text token."""
        from pytest_llmperf.engine.llama_scoring import vocabulary_of

        return vocabulary_of(self._vocab)

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of plain text, without a begin-of-text token."""
        tokens = self._llm.tokenize(text.encode("utf-8", "replace"), add_bos=False, special=False)
        return [int(token) for token in tokens]

    def score(
        self, tokens: Sequence[int], first: int, *, top: int = 0, samples: int = 0, at: Any = None
    ) -> TokenScores:
        """Score each token after position ``first``; see ``score_tokens``."""
        from pytest_llmperf.engine.llama_scoring import score_tokens

        check_context(len(tokens), 0, self._config["n_ctx"], self._llm.n_ctx())
        n_vocab = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self.reset()
        try:
            return score_tokens(
                self._ctx,
                tokens,
                first,
                n_vocab,
                self._llm.n_batch,
                self._decode_failed,
                top=top,
                samples=samples,
                at=at,
            )
        finally:
            self.reset()

    def generate(
        self, request: Request, sink: TokenSink | None, pause: Pause | None = None
    ) -> Generation:
        """Run one request; see Engine.generate."""
        if request.max_tokens is None:
            raise EngineError("max_tokens: the llama_cpp engine needs a number of output tokens")
        seed = self._config["seed"] if request.seed is None else request.seed
        if request.cache == "clear":
            self.reset()
        sampler = SamplerChain(self._llm.model, request, seed, self._eog)
        try:
            if request.cache == "keep":
                self._memory.forget_rest(self._evaluate)
            return self._run(request, request.max_tokens, sampler, sink, pause)
        except BaseException:
            # The cache no longer holds what the last request left in it.
            self.reset()
            raise
        finally:
            sampler.close()

    def _run(
        self,
        request: Request,
        max_tokens: int,
        sampler: SamplerChain,
        sink: TokenSink | None,
        pause: Pause | None,
    ) -> Generation:
        clock = time.perf_counter
        decode, ctx = llama_cpp.llama_decode, self._ctx
        pick = sampler.picker(ctx)
        delay = self._delay
        if delay is not None:
            pick = delay.slowed(pick, in_turns=pause is not None)
            pause = pause and delay.around(pause)
        t_start = clock()
        prompt, stops = tokenize(self._llm, request)
        check_context(len(prompt), max_tokens, self._config["n_ctx"], self._llm.n_ctx())
        rest = prompt[self._memory.keep_prefix(prompt) :] if request.cache == "keep" else prompt
        buffer = (llama_cpp.llama_token * len(rest))(*rest)
        t_prefill_start = clock()
        self._prefill(buffer, pause)
        if delay is not None:
            delay.slow_prompt(t_prefill_start)
        t_prefill_end = clock()
        times: list[float] = []
        output: list[int] = []
        text = bytearray()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        finish: FinishReason = "length"
        watch_text = bool(stops) or sink is not None
        next_token = (llama_cpp.llama_token * 1)()
        batch = llama_cpp.llama_batch_get_one(next_token, 1)
        while True:
            # pick() waits for the device, so the clock is not read right after a submission.
            token = pick()
            now = clock()
            if not request.ignore_eos and token in self._eog:
                finish = "eos"
                break
            times.append(now)
            output.append(token)
            if watch_text:
                piece = self._piece(token)
                text += piece
                if sink is not None:
                    sink(token, decoder.decode(piece), now)
                if any(stop in text[-len(piece) - len(stop) :] for stop in stops):
                    finish = "stop"
                    break
            if len(output) >= max_tokens:
                break
            if pause is not None:
                pause(len(output))
            next_token[0] = token
            status = decode(ctx, batch)
            if status != 0:
                raise EngineError(self._decode_failed(status))
        sampler.check(ctx)
        # The last token was sampled but, unless an end of sequence followed, never evaluated.
        # It is left out in either case: a replay bans end of sequence, and must find as
        # much in the cache as the recorded request did.
        self._memory.note_tokens([*prompt, *output[:-1]])
        return Generation(
            text=self._text(output, stops if finish == "stop" else ()),
            token_ids=tuple(output),
            prompt_token_ids=tuple(prompt),
            timeline=Timeline(
                t_start=t_start,
                token_times=tuple(times),
                prompt_tokens=len(prompt),
                prompt_tokens_evaluated=len(rest),
                t_prefill_start=t_prefill_start,
                t_prefill_end=t_prefill_end,
            ),
            finish_reason=finish,
            cache=request.cache,
        )

    def _evaluate(self, tokens: Sequence[int]) -> None:
        self._prefill((llama_cpp.llama_token * len(tokens))(*tokens))

    def _prefill(self, tokens: Any, pause: Pause | None = None) -> None:
        n_batch, size = self._llm.n_batch, ctypes.sizeof(llama_cpp.llama_token)
        for start in range(0, len(tokens), n_batch):
            count = min(n_batch, len(tokens) - start)
            part = (llama_cpp.llama_token * count).from_buffer(tokens, start * size)
            status = llama_cpp.llama_decode(self._ctx, llama_cpp.llama_batch_get_one(part, count))
            if status != 0:
                raise EngineError(self._decode_failed(status))
            if pause is not None and start + count < len(tokens):
                llama_cpp.llama_synchronize(self._ctx)
                pause(0)
        llama_cpp.llama_synchronize(self._ctx)

    def _decode_failed(self, status: int) -> str:
        reason = {
            1: "no room in the KV cache; raise llm.n_ctx",
            2: "aborted",
            -1: "invalid batch",
        }.get(status, "a fatal error of the backend, often out of memory on the device")
        return with_log_tail(f"llama_decode failed with {status}: {reason}", self._log)

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        length = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, _PIECE_BYTES, 0, False)
        return buffer.raw[: max(length, 0)]

    def _text(self, output: list[int], stops: Sequence[bytes]) -> str:
        text: bytes = self._llm.detokenize(output)
        cut = min((text.index(stop) for stop in stops if stop in text), default=len(text))
        return text[:cut].decode("utf-8", "replace")
