"""Quantizes a model through llama.cpp's own quantizer, in a process of its own."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.gguf import SplitModelError, model_files, stated_file_type
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.models.file_types import FILE_TYPES, UNQUANTIZED, file_type, renamed
from pytest_llmperf.models.model_output import WrittenModel, check_room, check_target, writing_model
from pytest_llmperf.process_groups import run_to_log

_PROGRAM = Path(__file__).with_name("quantizer.py")
#: Lines of the quantizer that an error shows.
_SHOWN_LINES = 6
_PART = re.compile(r"-\d{5}-of-\d{5}$")


def quantize(
    model: str,
    kinds: Sequence[str],
    folder: Path,
    *,
    allow_requantize: bool = False,
    overwrite: bool = False,
) -> Iterator[WrittenModel]:
    """Quantize a model to several types, one file each; yield each when it is complete.

    Args:
        model: anything that ``model_path`` accepts.
        kinds: names of quantizations.
        folder: for the files.
        allow_requantize: accept a model that is quantized already, which loses more quality.
        overwrite: replace existing files.

    Raises:
        ModelError: the model is missing, incomplete or quantized already, a file can't be
            written, or llama.cpp fails.
        UnknownFileTypeError: there is no such quantization.
    """
    names = list(dict.fromkeys(file_type(kind)[0] for kind in kinds))
    try:
        files = model_files(resolve_model(model, Path.cwd()))
        stated = stated_file_type(files[0])
    except (SplitModelError, OSError) as error:
        raise ModelError(model, str(error)) from None
    source = next((name for name, known in FILE_TYPES.items() if known.number == stated), None)
    _check_source(model, source, stated, allow_requantize)
    targets = {name: folder / file_name(files[0], name) for name in names}
    for target in targets.values():
        if any(target.exists() and target.samefile(file) for file in files):
            raise ModelError(model, f"{target} is the model itself; name a folder: --out")
        check_target(model, target, overwrite=overwrite)
    size = sum(file.stat().st_size for file in files)
    for name, target in targets.items():
        if source is not None:
            check_room(model, target, size * FILE_TYPES[name].bits / FILE_TYPES[source].bits)
        start = time.monotonic()
        with writing_model(model, target) as temporary:
            _run(model, files[0], temporary, name, allow_requantize)
        yield WrittenModel(name, target, target.stat().st_size, time.monotonic() - start)


def file_name(source: Path, kind: str) -> str:
    """Return the name of a quantized file: the source's, with another quantization at its end."""
    return f"{renamed(_PART.sub('', source.stem), kind)}.gguf"


def _check_source(model: str, source: str | None, stated: int | None, allowed: bool) -> None:
    if allowed or stated is None or source in UNQUANTIZED:
        return
    raise ModelError(
        model,
        f"it is quantized already ({source or f'file type {stated}'}), so a file made of it is "
        "worse than one made of the original; start from an F16, BF16 or F32 file, or accept that "
        "(for speed it makes no difference): --allow-requantize",
    )


def _run(model: str, source: Path, target: Path, kind: str, allow_requantize: bool) -> None:
    """Quantize in a child process, so that neither a crash nor Ctrl-C leaves anything behind."""
    command = [sys.executable, str(_PROGRAM), str(source), str(target)]
    command += [str(FILE_TYPES[kind].number), str(int(allow_requantize))]
    with tempfile.TemporaryDirectory(prefix="llmperf-quantize-") as folder:
        log = Path(folder) / "quantizer.log"
        status = run_to_log(command, Path.cwd(), os.environ, log)
        if status == 0:
            return
        output = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    ended = f"was ended by signal {-status}" if status < 0 else f"failed (exit status {status})"
    lines = "".join(f"\n  {line}" for line in output[-_SHOWN_LINES:])
    raise ModelError(
        model, f"llama.cpp's quantizer {ended} while making {kind}; its output:{lines}"
    )
