"""The worked example of docs/roofline.md: every number on the page is that of the real file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from gguf_files import Load

from pytest_llmperf.engine.gguf_header import read_gguf_header
from pytest_llmperf.measure.roofline import Bandwidth, Limit, decode_reads
from pytest_llmperf.session.roofline import RooflineShare, roofline_lines

PAGE = Path(__file__).parents[2] / "docs" / "roofline.md"
_ROW = re.compile(r"\| `(\w+\.weight)` \| ([\d x]+) \| (\w+) \| (\d+) \|")
#: Bytes of 32 weights, as the page says.
_BLOCKS = {"Q4_1": 20, "Q8_0": 34, "F32": 128}


@pytest.fixture(scope="module")
def text() -> str:
    """The page with every run of white space made one space."""
    return re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))


def number(text: str, pattern: str) -> float:
    """Return the number that the page has where ``pattern`` has its group."""
    match = re.search(pattern, text)
    assert match is not None, f"the page no longer says {pattern!r}"
    return float(match[1])


def test_the_table_is_a_layer_of_the_file(text: str, model_file: Path) -> None:
    sizes = {tensor.name: tensor.size for tensor in read_gguf_header(model_file).tensors}
    rows = {name: (shape, kind, int(size)) for name, shape, kind, size in _ROW.findall(text)}
    for layer in range(30):
        prefix = f"blk.{layer}."
        mine = {
            name.removeprefix(prefix): size
            for name, size in sizes.items()
            if name.startswith(prefix)
        }
        assert mine == {name: size for name, (_, _, size) in rows.items()}
    for shape, kind, size in rows.values():
        weights = 1
        for length in shape.split(" x "):
            weights *= int(length)
        assert weights // 32 * _BLOCKS[kind] == size
    layer_bytes = sum(size for _, _, size in rows.values())
    assert number(text, r"A layer: (\d+) bytes") == layer_bytes
    assert number(text, r"30 of them: (\d+)\.") == 30 * layer_bytes


def test_the_other_tensors_are_those_of_the_file(text: str, model_file: Path) -> None:
    tensors = read_gguf_header(model_file).tensors
    others = {t.name: t.size for t in tensors if not t.name.startswith("blk.")}
    assert others == {
        "output_norm.weight": number(text, r"576 x F32: (\d+)\."),
        "token_embd.weight": number(text, r"whole: (\d+)\."),
    }
    assert number(text, r"34 = (\d+)\.") == 576 / 32 * 34


def test_the_sums_are_what_the_engine_says_of_the_file(
    text: str, model_file: Path, load: Load
) -> None:
    reads = load(model_file, n_ctx=512).info.reads
    assert reads is not None
    assert reads.weights == {"CPU": number(text, r"Weights: (\d+) bytes per token")}
    per_position = number(text, r"2 bytes = (\d+) per position")
    assert reads.bytes_at(1)["CPU"] - reads.weights["CPU"] == per_position
    found = decode_reads(reads, [(38, 64)])
    assert found is not None
    assert found.steps == number(text, r"take (\d+) steps")
    assert found.depth == number(text, r"positions, (\d+) on average")
    assert found.depth * per_position == number(text, r"70 x 23040 = (\d+)\.")
    assert found.total == number(text, r"(\d+) bytes per token\.\*\* With")
    bandwidth = number(text, r"With (\d+) GB/s") * 1e9
    limit = Limit(found, {"CPU": Bandwidth(bandwidth, "measured, a stream on 2 threads")})
    assert f"{1e3 * limit.seconds:.3f}" == f"{number(text, r'that is ([0-9.]+) ms'):.3f}"
    assert f"{limit.tokens_per_sec:.1f}" == f"{number(text, r'a limit of ([0-9.]+) tokens'):.1f}"
    share = limit.share(number(text, r"decoding (\d+) tokens per second"))
    assert f"{100 * share:.1f}" == f"{number(text, r'is at ([0-9.]+)% of it'):.1f}"
    (line,) = roofline_lines(RooflineShare(limit, share))
    assert line in text
