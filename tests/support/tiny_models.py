"""Tiny real GGUF models: a few hundred kilobytes, random weights, thousands of tokens/s.

    from tiny_models import tiny_llama

    model = tiny_llama(seed=1)  # a Path; the file is shared, so copy it before you change it

A file is written once and kept in the temporary folder under a hash of what it was made of, so
that tests, pytest-xdist workers and later runs share it. The same arguments give the same bytes,
and greedy decoding of the same prompt gives the same tokens. A prompt has one token per byte of
text, and one for the beginning: ``prompt_tokens(text)``.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import gguf
    import numpy as np

Quantization = Literal["F32", "F16", "Q8_0"]

#: The usual template of messages between <|im_start|> and <|im_end|>.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Stated in every model as the longest context it was trained for.
CONTEXT = 2048
_SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
BOS, END = 1, 4
VOCABULARY = 512


def prompt_tokens(text: str) -> int:
    """Return the number of tokens of a prompt that contains no special token."""
    return 1 + len(text.encode())


def tiny_llama(
    *,
    seed: int = 0,
    layers: int = 2,
    width: int = 64,
    quantization: Quantization = "F32",
    chat_template: str | None = CHAT_TEMPLATE,
    shards: int = 1,
    name: str = "tiny-llama",
) -> Path:
    """Return a model of the Llama architecture.

    Args:
        seed: seed of the weights; another seed gives a model that generates other tokens.
        layers, width: the model's size; ``width`` is a multiple of 64.
        quantization: type of the matrices; norms are 32-bit floats.
        chat_template: a Jinja template; None leaves it out.
        shards: number of files, split as by gguf-split; the first one is returned.
        name: name of the file and of the model.
    """

    def fill(model: TinyModel) -> None:
        model.vocabulary(chat_template)
        model.transformer(layers, width)

    recipe = {"architecture": "llama", "layers": layers, "width": width, "template": chat_template}
    return tiny_model(recipe, fill, seed=seed, quantization=quantization, shards=shards, name=name)


def tiny_lora(*, seed: int = 0, width: int = 64, name: str = "tiny-lora") -> Path:
    """Return a LoRA adapter for ``tiny_llama`` that changes the output matrix."""

    def fill(model: TinyModel) -> None:
        writer, rank = model.writer, 4
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", 8.0)
        model.matrix("output", width, rank, suffix="weight.lora_a")
        model.matrix("output", rank, VOCABULARY, suffix="weight.lora_b")

    return tiny_model({"architecture": "llama", "lora": width}, fill, seed=seed, name=name)


def tiny_model(
    recipe: dict[str, Any],
    fill: Callable[[TinyModel], None],
    *,
    seed: int = 0,
    quantization: Quantization = "F32",
    shards: int = 1,
    name: str = "tiny",
) -> Path:
    """Return the (first) file of a model; write it if no earlier run has.

    Args:
        recipe: what decides the content apart from this module's source: ``architecture``, and
            whatever ``fill`` depends on.
        fill: a function that adds the architecture's metadata and tensors.
        seed, quantization: seed and type of the weights.
        shards: number of files.
        name: name of the file, without its extension.
    """
    made_of = json.dumps([recipe, seed, quantization, shards, name], sort_keys=True).encode()
    key = hashlib.sha256(Path(__file__).read_bytes() + made_of).hexdigest()[:16]
    folder = _cache() / key
    if not folder.exists():
        # Another worker may be writing the same model; the first one done renames its folder.
        with tempfile.TemporaryDirectory(prefix=f"{key}-", dir=folder.parent) as temporary:
            model = TinyModel(recipe["architecture"], seed, quantization, name)
            fill(model)
            model.write(Path(temporary) / "made" / f"{name}.gguf", shards)
            with contextlib.suppress(OSError):
                (Path(temporary) / "made").rename(folder)
    return min(folder.iterdir())


def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"llmperf-tiny-models-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


class TinyModel:
    """A GGUF file under construction, written by the ``gguf`` package."""

    def __init__(self, architecture: str, seed: int, quantization: Quantization, name: str) -> None:
        # Importing these takes a tenth of a second, which an existing model need not cost.
        import gguf
        import numpy as np

        self.architecture = architecture
        self.writer: gguf.GGUFWriter = gguf.GGUFWriter(None, architecture)
        self._type = gguf.GGMLQuantizationType[quantization]
        self._order: np.random.Generator = np.random.default_rng(seed)
        self._tensors: list[tuple[str, np.ndarray, gguf.GGMLQuantizationType | None]] = []
        self.writer.add_name(name)
        self.writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[quantization]])

    def vocabulary(self, template: str | None) -> None:
        """Add a tokenizer that splits text into bytes, and also has tokens for words."""
        letters = [f"<0x{byte:02X}>" for byte in range(256)]
        words = ["▁", *(f"▁w{n}" for n in range(VOCABULARY - len(_SPECIAL) - len(letters) - 1))]
        writer = self.writer
        writer.add_tokenizer_model("llama")
        writer.add_token_list([*_SPECIAL, *letters, *words])
        writer.add_token_scores([0.0] * VOCABULARY)
        # Values of enum llama_token_type: unknown 2, control 3, byte 6, normal 1.
        writer.add_token_types([2, *[3] * (len(_SPECIAL) - 1), *[6] * 256, *[1] * len(words)])
        writer.add_vocab_size(VOCABULARY)
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(BOS)
        writer.add_eos_token_id(END)
        writer.add_add_bos_token(True)
        writer.add_add_space_prefix(False)
        if template is not None:
            writer.add_chat_template(template)

    def transformer(self, layers: int, width: int) -> None:
        """Add a Llama with heads of width 32; every two heads share their keys and values."""
        heads, inner = width // 32, 2 * width
        writer = self.writer
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(width)
        writer.add_block_count(layers)
        writer.add_feed_forward_length(inner)
        writer.add_head_count(heads)
        writer.add_head_count_kv(heads // 2)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(32)
        self.embedding(width)
        for layer in range(layers):
            block = f"blk.{layer}"
            self.norm(f"{block}.attn_norm", width)
            self.matrix(f"{block}.attn_q", width, width)
            self.matrix(f"{block}.attn_k", width, width // 2)
            self.matrix(f"{block}.attn_v", width, width // 2)
            self.matrix(f"{block}.attn_output", width, width)
            self.norm(f"{block}.ffn_norm", width)
            self.matrix(f"{block}.ffn_gate", width, inner)
            self.matrix(f"{block}.ffn_up", width, inner)
            self.matrix(f"{block}.ffn_down", inner, width)

    def embedding(self, width: int) -> None:
        """Add the input and output matrices, and the norm before the output matrix."""
        self.matrix("token_embd", width, VOCABULARY, spread=1.0)
        self.norm("output_norm", width)
        self.matrix("output", width, VOCABULARY)

    def matrix(
        self,
        name: str,
        inputs: int,
        outputs: int,
        spread: float | None = None,
        suffix: str = "weight",
    ) -> None:
        """Add random weights; the default spread makes outputs about as large as inputs."""
        import gguf

        values = self._order.normal(0, spread or inputs**-0.5, (outputs, inputs))
        data = gguf.quants.quantize(values.astype("float32"), self._type)
        self._add(f"{name}.{suffix}", data, self._type)

    def norm(self, name: str, width: int) -> None:
        """Add a norm's weights, near 1."""
        self.values(f"{name}.weight", 1 + self._order.normal(0, 0.1, width))

    def values(self, name: str, values: np.ndarray) -> None:
        """Add a tensor of 32-bit floats."""
        self._add(name, values.astype("float32"), None)

    def random(self, *shape: int) -> np.ndarray:
        """Return normal random numbers with a standard deviation of 0.1."""
        return self._order.normal(0, 0.1, shape)

    def overwrite(self, name: str, place: int, value: float) -> None:
        """Overwrite a row (of a vector: an element) of an added tensor with a value."""
        data = next(data for added, data, _ in self._tensors if added == name)
        data[place] = value

    def _add(self, name: str, data: np.ndarray, kind: gguf.GGMLQuantizationType | None) -> None:
        self._tensors.append((name, data, kind))

    def write(self, file: Path, shards: int = 1) -> None:
        """Write the model to ``file``, or several shards to files named after it."""
        writer = self.writer
        # The package splits by number of tensors, while they are added.
        writer.split_max_tensors = -(-len(self._tensors) // shards) if shards > 1 else 0
        for name, data, kind in self._tensors:
            writer.add_tensor(name, data, raw_dtype=kind)
        file.parent.mkdir(parents=True, exist_ok=True)
        writer.write_header_to_file(file)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


_FILE_TYPES = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0"}
