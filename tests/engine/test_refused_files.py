"""Models and settings that llama.cpp refuses: the message names the cause and the fix."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import VOCABULARY, tiny_llama, tiny_lora

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.request import Request

Load = Callable[..., EngineClient]

MESSAGE = {"role": "user", "content": "Hi"}
NEWER = "a newer llama-cpp-python may"
#: A tensor's entry in the header up to its type: two dimensions, 64 and the vocabulary.
OUTPUT = b"output.weight" + struct.pack("<IQQ", 2, 64, VOCABULARY)
LLAMA = struct.pack("<Q", 5) + b"llama"


def refusal(tiny_client: Load, file: Path, **changes: Any) -> str:
    """Return the message of a load that fails."""
    with pytest.raises(EngineLoadError) as caught:
        tiny_client(file, **changes)
    return str(caught.value)


def hint_of(tiny_client: Load, file: Path, **changes: Any) -> str:
    return refusal(tiny_client, file, **changes).rpartition("\nhint: ")[2]


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda data: data[:4] + struct.pack("<I", 9) + data[8:], f"GGUF version 9.*{NEWER}"),
        (lambda data: data[:4] + struct.pack(">I", 3) + data[8:], "the other byte order"),
        (lambda data: data.replace(LLAMA, LLAMA[:-2] + b"xa", 1), f"'llaxa'.*{NEWER}"),
        (lambda data: data.replace(OUTPUT + bytes(4), OUTPUT + b"\x63\0\0\0"), f"type 99.*{NEWER}"),
        (lambda data: data.replace(b"blk.1.attn_q", b"blk.1.attn_x"), r"blk\.1\.attn_q\.weight"),
        (lambda data: data[:-5000], "the file is truncated"),
        (lambda data: data[:3000], "the file is truncated"),
    ],
    ids=["version", "byte order", "architecture", "type", "tensor", "end", "header"],
)
def test_a_file_is_refused_with_what_is_wrong_with_it(
    tiny_client: Load, tmp_path: Path, change: Callable[[bytes], bytes], hint: str
) -> None:
    data = tiny_llama().read_bytes()
    file = tmp_path / "broken.gguf"
    file.write_bytes(change(data))
    assert file.read_bytes() != data
    message = hint_of(tiny_client, file)
    assert re.search(hint, message), message
    assert "memory" not in message


def test_a_renamed_part_of_a_split_model_needs_its_name_back(
    tiny_client: Load, tmp_path: Path
) -> None:
    file = Path(shutil.copy(tiny_llama(shards=3), tmp_path / "renamed.gguf"))
    assert "must keep the names that gguf-split gave them" in hint_of(tiny_client, file)


@pytest.mark.parametrize(
    ("adapter", "why"),
    [
        (lambda: Path("none.gguf"), "open 'none.gguf': No such file"),
        (lambda: tiny_lora(width=128), "apply lora adapter: "),
    ],
    ids=["missing", "of another model"],
)
def test_an_adapter_that_does_not_fit_is_refused_when_it_is_loaded(
    tiny_client: Load, adapter: Callable[[], Path], why: str
) -> None:
    hint = hint_of(tiny_client, tiny_llama(), extra={"lora_path": str(adapter())})
    assert hint.startswith(f"llm.extra.lora_path: llama.cpp failed to {why}")


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"extra": {"rope_freq_base": "x"}}, r"check llm\.extra \(rope_freq_base\)"),
        ({"extra": {"kv_overrides": {"tokenizer.ggml.model": "gptx"}}}, f"'gptx'.*{NEWER}"),
    ],
    ids=["argument", "tokenizer"],
)
def test_a_setting_is_not_taken_for_a_damaged_file(
    tiny_client: Load, changes: dict[str, Any], hint: str
) -> None:
    message = hint_of(tiny_client, tiny_llama(), **changes)
    assert re.search(hint, message), message
    assert "SHA-256" not in message


def test_a_cache_type_that_does_not_fit_the_heads_is_named(
    tiny_client: Load, tmp_path: Path
) -> None:
    # A model with heads of 16, half a block of q8_0.
    file = tmp_path / "small.gguf"
    data = bytearray(tiny_llama().read_bytes())
    smaller = {"attention.head_count": 4, "attention.head_count_kv": 2, "rope.dimension_count": 16}
    for key, count in smaller.items():
        head = f"llama.{key}".encode() + struct.pack("<I", 4)
        at = data.index(head) + len(head)
        data[at : at + 4] = struct.pack("<I", count)
    file.write_bytes(data)
    assert "set llm.type_k to null" in hint_of(tiny_client, file, type_k="q8_0", flash_attn=True)


BROKEN = "{% for message in messages %}{{ message.content "


def test_a_chat_template_that_does_not_parse_stops_chats_alone(tiny_client: Load) -> None:
    client = tiny_client(tiny_llama(chat_template=BROKEN))
    assert client.request(Request(prompt="Hi", max_tokens=2)).output_tokens == 2
    with pytest.raises(EngineError) as caught:
        client.request(Request(messages=(MESSAGE,), max_tokens=2))
    assert str(caught.value) == (
        "the model's chat template does not parse: unexpected end of template, expected 'end of "
        "print statement'. (line 1); name another one in llm.chat_format, such as chatml, or use "
        "a model file whose template is whole"
    )


def test_a_named_chat_format_replaces_a_broken_template(tiny_client: Load) -> None:
    client = tiny_client(tiny_llama(chat_template=BROKEN), chat_format="chatml")
    assert client.request(Request(messages=(MESSAGE,), max_tokens=2)).output_tokens == 2


def test_a_template_with_an_unknown_filter_is_named(tiny_client: Load) -> None:
    client = tiny_client(tiny_llama(chat_template="{{ messages | shorter }}"))
    with pytest.raises(EngineError, match="does not parse: No filter named 'shorter'"):
        client.request(Request(messages=(MESSAGE,), max_tokens=2))


def test_an_unknown_chat_format_is_named_with_the_nearest(tiny_client: Load) -> None:
    client = tiny_client(tiny_llama(), chat_format="chatmll")
    with pytest.raises(EngineError) as caught:
        client.request(Request(messages=(MESSAGE,), max_tokens=2))
    assert str(caught.value).startswith(
        "llm.chat_format: llama-cpp-python has no format 'chatmll'; did you mean 'chatml'? Leave "
        "it out to use the model's own template. Known: "
    )


def test_a_prompt_without_room_is_told_the_configured_context(tiny_client: Load) -> None:
    client = tiny_client(tiny_llama(), n_ctx=300)
    with pytest.raises(EngineError) as caught:
        client.request(Request(prompt="h" * 400, max_tokens=300))
    assert str(caught.value) == (
        "the context is too small: 401 prompt tokens + 300 output tokens > n_ctx 300; raise "
        "llm.n_ctx to at least 701 (llama.cpp rounds 300 up to 512)"
    )
