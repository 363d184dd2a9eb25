"""A synthetic tokenizer, without words of any language: byte-level BPE of any size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from pytest_llmperf.models.blueprint import Value

#: Control tokens, the last of the vocabulary.
BEGIN, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_CONTROL = (BEGIN, START, END)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: In order of frequency, so that pieces of common words come first.
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
_SPACE = "Ġ"
#: Of enum llama_token_type.
_NORMAL, _CONTROL_TYPE = 1, 3


def tokenizer(words: int, pre: str) -> dict[str, Value]:
    """Return the metadata of a tokenizer with a vocabulary of ``words`` tokens.

    Every byte is a token; then come pairs of letters, and pairs of those, so that a token of
    English text has two to four letters.

    Args:
        words: at least 259.
        pre: how text is split beforehand: ``tokenizer.ggml.pre``.
    """
    pieces = list(islice(_merges(), words - 256 - len(_CONTROL)))
    tokens = [*_bytes(), *(left + right for left, right in pieces), *_CONTROL]
    if len(tokens) != words:
        raise ValueError(f"expected 259 to 475,513 words, got {words}")
    types = [_NORMAL] * (words - len(_CONTROL)) + [_CONTROL_TYPE] * len(_CONTROL)
    fields = {
        "model": Value.of("gpt2"),
        "pre": Value.of(pre),
        "tokens": Value.of(tokens),
        "token_type": Value(types, "ARRAY", "INT32"),
        "bos_token_id": Value.of(tokens.index(BEGIN)),
        "eos_token_id": Value.of(tokens.index(END)),
        "padding_token_id": Value.of(tokens.index(BEGIN)),
        "add_bos_token": Value.of(False),
    }
    if pieces:
        fields["merges"] = Value.of([f"{left} {right}" for left, right in pieces])
    return {f"tokenizer.ggml.{key}": value for key, value in fields.items()} | {
        "tokenizer.chat_template": Value.of(CHAT_TEMPLATE)
    }


def _bytes() -> list[str]:
    """Return the character that stands for each byte: itself if it is visible (GPT-2's way)."""
    visible = set(chain(range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100)))
    others = iter(range(256, 512))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


def _merges() -> Iterator[tuple[str, str]]:
    """Yield the pairs to merge: first of two letters, then of two such pairs."""
    starts = [(_SPACE, letter) for letter in _LETTERS]
    pairs = [(left, right) for left in _LETTERS for right in _LETTERS]
    yield from starts
    yield from pairs
    rights = [left + right for left, right in pairs]
    for left, right in [*starts, *pairs]:
        for after in rights:
            yield left + right, after
