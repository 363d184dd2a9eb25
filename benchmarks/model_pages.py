"""How much the kind of memory pages that hold a model file changes its speed.

    python benchmarks/model_pages.py [--model FILE] [--pairs 10] [--ways 4KiB scattered]

llama.cpp maps a model file, so weights are read from where the system keeps the file's pages, small
or large. Copies with the same bytes that came into memory in different ways run against a copy that
was read as a perf session first reads a model file, in pairs that take turns by tokens:

- read: in the same way once more;
- 8MiB, 1MiB, 4KiB: written in pieces of this size;
- scattered: read page by page, in random order;
- unmapped: ``use_mmap: false``.

Printed for each way: the share of the file in pages of 2 MiB (``FilePmdMapped``), and how much
slower it is (negative: faster) with the 95% interval (Wilcoxon's signed ranks). Linux only; nothing
else should use the cores.
"""

from __future__ import annotations

import argparse
import math
import mmap
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from exit_status import exit_with
from paired import MIN_PAIRS, signed_rank_interval
from turns import METRICS, block, plan_of, record

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.engine.client import LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.machine.file_pages import read_again

_PAGE = mmap.PAGESIZE
_KIB, _MIB = 1024, 1024 * 1024


def write(source: Path, target: Path, piece: int) -> None:
    """Copy a file onto the disk in pieces of ``piece`` bytes."""
    with source.open("rb") as read, target.open("wb", buffering=0) as written:
        while part := read.read(piece):
            written.write(part)
        os.fsync(written.fileno())


def read(source: Path, target: Path) -> None:
    """Write a copy, and read it as a session does."""
    write(source, target, _MIB)
    read_again([target])


def scattered(source: Path, target: Path) -> None:
    """Write a copy, drop it from memory, and read it back page by page, in random order."""
    write(source, target, _MIB)
    with target.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            mapped.madvise(mmap.MADV_RANDOM)
            places = list(range(0, len(mapped), _PAGE))
            random.Random(1).shuffle(places)
            for place in places:
                mapped[place]


#: How the copy of each way comes into memory.
WAYS: dict[str, Callable[[Path, Path], None]] = {
    "read": read,
    "8MiB": partial(write, piece=8 * _MIB),
    "1MiB": partial(write, piece=_MIB),
    "4KiB": partial(write, piece=4 * _KIB),
    "scattered": scattered,
    "unmapped": read,
}


@contextmanager
def held(file: Path) -> Iterator[float]:
    """Map a file, so that its pages can't be dropped; yield the share in large pages."""
    with file.open("rb") as stream:
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        with mmap.mmap(stream.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as mapped:
            lines = iter(Path("/proc/self/smaps").read_text().split("\n"))
            next((line for line in lines if line.endswith(str(file))), "")
            large = next((line for line in lines if line.startswith("FilePmdMapped:")), "")
            yield int(large.split()[1]) * _KIB / len(mapped) if large else math.nan


def main() -> int:
    """Compare the copies, and print the table."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--model", default="smollm2-135m", help="a file (default: the embedded)")
    parser.add_argument("--pairs", type=whole_number(MIN_PAIRS), default=10)
    parser.add_argument("--threads", type=whole_number(), default=2, help="of the engine")
    parser.add_argument("--tokens", type=whole_number(2), default=32, help="of an answer")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("only Linux lets a program drop a file from memory")
    both = {"n_threads": arguments.threads, "n_threads_batch": arguments.threads}
    llm = LlamaCppConfig.model_validate({"n_ctx": 512, **both})
    source = resolve_model(arguments.model, Path.cwd())
    print(f"{'':<10}{'large pages':>11}  {'metric':<15}{'slower':>8}  95% interval")
    with tempfile.TemporaryDirectory(dir=source.parent, prefix=".llmperf-pages-") as folder:
        base = Path(folder).resolve() / "base.gguf"
        read(source, base)
        workload = record(LaunchSpec("llama_cpp", llm.resolved(base)), arguments.tokens)
        pairs = arguments.pairs
        plan = plan_of(workload, pairs, 3, arguments.seed, processes=pairs)
        for way in arguments.ways:
            other = base.with_name(f"{way}.gguf")
            WAYS[way](source, other)
            own = llm.model_copy(update={"use_mmap": way != "unmapped"})
            candidate, against = (
                LaunchSpec("llama_cpp", config.resolved(file))
                for config, file in ((own, other), (llm, base))
            )
            with held(base), held(other) as large:
                done = block(candidate, against, plan, "tokens")
            known = f"{large:.0%}" if own.use_mmap else "-"
            for name in METRICS:
                interval = signed_rank_interval(done.differences[name])
                low, centre, high = map(math.expm1, (interval.low, interval.centre, interval.high))
                cells = f"{name:<15}{centre:>+8.2%}  [{low:+.2%}, {high:+.2%}]"
                print(f"{way:<10}{known:>11}  {cells}", flush=True)
            other.unlink()
    return 0


if __name__ == "__main__":
    exit_with(main, EngineError, ModelError, OSError)
