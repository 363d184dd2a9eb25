"""Turns a request into token ids: text, token ids as they are, or a chat by its template."""

from __future__ import annotations

import difflib
from datetime import datetime
from typing import Any

import jinja2
import llama_cpp
from llama_cpp import llama_chat_format

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.request import Request

#: The date that a chat template gets when it asks for today.
_TEMPLATE_DATE = datetime(2025, 1, 1)


class _ChatPrompt(Exception):  # noqa: N818 - carries a value out of a callback, is no error
    """Carries the formatted prompt out of llama-cpp-python's chat handler."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__("the chat handler asked for a completion")
        self.arguments = arguments


class PromptingLlama(llama_cpp.Llama):  # type: ignore[misc]  # untyped package
    """A Llama whose chat handlers return the formatted prompt instead of generating."""

    def create_completion(self, prompt: Any, **arguments: Any) -> Any:
        """Raise the formatted prompt to the caller."""
        raise _ChatPrompt({"prompt": prompt, **arguments})


class _Formatter(llama_chat_format.Jinja2ChatFormatter):  # type: ignore[misc]  # untyped package
    """Formats chats by the model's template, on the same date every day.

    A prompt that changes at midnight would be another workload tomorrow. A template that does
    not parse is no error until a chat needs it: other prompts can do without, and so can chats
    for which ``llm.chat_format`` names another one.
    """

    strftime_now = staticmethod(_TEMPLATE_DATE.strftime)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._problem = ""
        try:
            super().__init__(*arguments, **named)
        except jinja2.TemplateError as error:
            line = getattr(error, "lineno", None)
            self._problem = f"{error.message}{f' (line {line})' if line else ''}"

    def __call__(self, **arguments: Any) -> Any:
        if self._problem:
            raise EngineError(
                f"the model's chat template does not parse: {self._problem}; name another one in "
                "llm.chat_format, such as chatml, or use a model file whose template is whole"
            )
        return super().__call__(**arguments)


def prepare_templates() -> None:
    """Let llama-cpp-python format chats with our formatter."""
    llama_chat_format.Jinja2ChatFormatter = _Formatter


def tokenize(llm: PromptingLlama, request: Request) -> tuple[list[int], list[bytes]]:
    """Return the prompt's token ids and the stop strings, the template's own included.

    Raises:
        EngineError: there is nothing to evaluate, or the chat template refuses the messages.
    """
    stops = list(request.stop)
    if request.messages is not None:
        arguments = _format_chat(llm, request)
        prompt = arguments["prompt"]
        extra = arguments.get("stop") or []
        stops += [extra] if isinstance(extra, str) else extra
        if isinstance(prompt, str):
            prompt = llm.tokenize(prompt.encode(), add_bos=True, special=True)
    elif isinstance(request.prompt, tuple):
        prompt = list(request.prompt)
        n_vocab = llm.n_vocab()
        if bad := [token for token in prompt if token >= n_vocab]:
            raise EngineError(
                f"prompt: token id {bad[0]} is outside the model's vocabulary of {n_vocab} tokens"
            )
    else:
        text = (request.prompt or "").encode("utf-8", "replace")
        prompt = llm.tokenize(text, add_bos=True, special=True)
    if not prompt:
        raise EngineError("the prompt has no tokens: nothing to evaluate")
    if request.ignore_eos and request.messages is not None:
        # The template's end marker is another end of sequence.
        stops = list(request.stop)
    return [int(token) for token in prompt], [stop.encode() for stop in stops]


def _format_chat(llm: PromptingLlama, request: Request) -> dict[str, Any]:
    try:
        llm.create_chat_completion(messages=list(request.messages or ()))
    except _ChatPrompt as captured:
        return captured.arguments
    except EngineError:
        raise
    except llama_chat_format.LlamaChatCompletionHandlerNotFoundException:
        raise EngineError(_unknown_format(llm.chat_format)) from None
    except Exception as error:
        raise EngineError(
            f"chat format {llm.chat_format!r} refused the messages: {error}"
        ) from error
    raise EngineError(f"chat format {llm.chat_format!r} produced no prompt")


def _unknown_format(name: str) -> str:
    known = sorted(llama_chat_format.LlamaChatCompletionHandlerRegistry()._chat_handlers)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}? Leave" if near else "; leave"
    return (
        f"llm.chat_format: llama-cpp-python has no format {name!r}{hint} it out to use the "
        f"model's own template. Known: {', '.join(known)}"
    )
