"""The settings in the notation of other programs, and the command that prints them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from tiny_models import tiny_llama, tiny_lora

from pytest_llmperf.cli import main
from pytest_llmperf.config.llm_section import LlamaCppConfig, read_llm
from pytest_llmperf.report.exports import ExportError, Program, export_settings

EVERYTHING: dict[str, Any] = {
    "n_ctx": 4096,
    "n_batch": 256,
    "n_threads": 2,
    "n_threads_batch": 4,
    "use_mmap": False,
    "use_mlock": True,
    "n_gpu_layers": 12,
    "split_mode": "row",
    "main_gpu": 1,
    "tensor_split": [0.6, 1],
    "flash_attn": True,
    "type_k": "q8_0",
    "type_v": "q4_0",
    "offload_kqv": False,
    "chat_format": "chatml",
    "seed": 7,
    "extra": {
        "rope_freq_base": 10000.0,
        "rope_scaling_type": 2,
        "yarn_orig_ctx": 2048,
        "op_offload": False,
        "numa": True,
        "kv_overrides": {"a.b": True, "c": 1},
        "last_n_tokens_size": 32,
    },
}


def _exported(program: Program, path: str | Path | None, **settings: Any) -> str:
    config = read_llm({"n_threads": 1, "n_threads_batch": 1, **settings})
    return export_settings(program, config.resolved(), path)


def _shell_words(tmp_path: Path, text: str) -> list[str]:
    """Return the arguments that a real shell passes to llama-server."""
    program = tmp_path / "bin" / "llama-server"
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done\n")
    program.chmod(0o755)
    path = os.pathsep.join((str(program.parent), os.environ["PATH"]))
    done = subprocess.run(
        ["sh", "-c", text], capture_output=True, env={"PATH": path}, check=True, timeout=30
    )
    return done.stdout.decode().split("\0")[:-1]


posix = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell's notation")


@posix
def test_llama_server_gets_the_settings_through_a_shell(tmp_path: Path) -> None:
    path = '/models of mine/it\'s $HOME "q" #1.gguf'
    option, file, *others = _shell_words(tmp_path, _exported("llama-server", path))
    assert (option, file) == ("-m", path)
    assert " ".join(others) == (
        "-c 2048 -b 1024 -ub 512 -t 1 -tb 1 -n 256 -s 42 -np 1 -ngl 999 -fa off"
    )


@posix
def test_llama_server_gets_every_setting_that_it_has(tmp_path: Path) -> None:
    text = _exported("llama-server", "/m.gguf", **EVERYTHING)
    assert " ".join(_shell_words(tmp_path, text)) == (
        "-m /m.gguf -c 4096 -b 256 -ub 256 -t 2 -tb 4 -n 256 -s 7 -np 1 -ngl 12 -fa on "
        "-ctk q8_0 -ctv q4_0 -sm row -mg 1 -ts 0.6,1 -nkvo --load-mode mlock "
        "--rope-freq-base 10000.0 --rope-scaling yarn --yarn-orig-ctx 2048 --no-op-offload "
        "--numa distribute --override-kv a.b=bool:true,c=int:1"
    )
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert comments == [
        "# Settings for llama-server.",
        "# Builds before --load-mode take: --no-mmap --mlock",
        "# chat_format: chatml is a name of llama-cpp-python; see --chat-template",
        "# load_timeout, generation_timeout: limits of the measurement only",
        "# extra.last_n_tokens_size: 32: no equivalent",
    ]


def test_llama_servers_own_parser_knows_the_options() -> None:
    """The parser's library is installed beside llama-cpp-python's and holds the options as text."""
    folder = Path(llama_cpp.__file__).parents[1] / "lib"
    library = next(folder.glob("*llama-common*"), None)
    if library is None:
        pytest.skip("this build of llama-cpp-python has no such library")
    content = library.read_bytes()
    lora = {"lora_path": "/a.gguf", "lora_scale": 0.5, "swa_full": True, "rope_freq_scale": 0.5}
    texts = [
        _exported("llama-server", "/m.gguf", **EVERYTHING),
        _exported("llama-server", "/m.gguf", extra=lora),
        _exported("llama-server", None, model_path="hf://a/b/c.gguf"),
    ]
    lines = [line for text in texts for line in text.splitlines() if not line.startswith("#")]
    options = {word for line in lines for word in line.split() if word.startswith("-")}
    assert len(options) > 25
    assert {option for option in options if option.encode() + b"\0" not in content} == set()
    assert b"--no-such-option\0" not in content


def test_ollama_gets_a_modelfile() -> None:
    assert _exported("ollama", "/my models/a b.gguf", flash_attn=True, type_k="q8_0",
                     type_v="q8_0", n_gpu_layers=0) == (
        "# Settings for Ollama: ollama create NAME -f Modelfile\n"
        "# Set in the environment of `ollama serve`; they hold for all models:\n"
        "#   OLLAMA_FLASH_ATTENTION=1\n"
        "#   OLLAMA_KV_CACHE_TYPE=q8_0\n"
        "#   OLLAMA_NUM_PARALLEL=1\n"
        "# n_ubatch: 512: no equivalent\n"
        "# load_timeout, generation_timeout: limits of the measurement only\n"
        "FROM /my models/a b.gguf\n"
        "PARAMETER num_ctx 2048\n"
        "PARAMETER num_batch 1024\n"
        "PARAMETER num_thread 1\n"
        "PARAMETER num_gpu 0\n"
        "PARAMETER use_mmap true\n"
        "PARAMETER num_predict 256\n"
        "PARAMETER seed 42\n"
    )  # fmt: skip


def test_what_ollama_can_not_set_is_said() -> None:
    lines = _exported("ollama", "/m.gguf ", **EVERYTHING).splitlines()
    assert [line for line in lines if "OLLAMA_KV" in line] == []
    assert {
        "# type_k: q8_0, type_v: q4_0: Ollama has one type for both: f16, q8_0, q4_0",
        "# n_threads_batch: 4: Ollama uses num_thread for both",
        "# use_mlock: true: Ollama ignores it",
        "# split_mode: row: no equivalent",
        "# tensor_split: [0.6, 1.0]: no equivalent",
        "# offload_kqv: false: no equivalent",
        "# chat_format: chatml: no equivalent",
        "# extra.rope_freq_base: 10000.0: no equivalent",
        "FROM \"/m.gguf \"",
        "PARAMETER main_gpu 1",
        "PARAMETER use_mmap false",
    } <= set(lines)  # fmt: skip


def test_python_code_loads_the_model_with_the_settings(tmp_path: Path) -> None:
    model = tmp_path / 'my "models" \u00e9\U0001f600' / "a'b.gguf"
    model.parent.mkdir()
    shutil.copy(tiny_llama(), model)
    extra = {"rope_freq_base": 10000.0, "kv_overrides": {"tokenizer.ggml.add_bos_token": False}}
    code = _exported(
        "python", model, n_ctx=256, max_tokens=8, n_batch=128, n_threads_batch=2, seed=3,
        flash_attn=True, type_k="q8_0", tensor_split=[1], chat_format="chatml", extra=extra,
    )  # fmt: skip
    names: dict[str, Any] = {}
    exec(compile(code, "exported", "exec"), names)
    llm = names["llm"]
    try:
        params = llm.context_params
        assert (llm.n_ctx(), params.n_batch, params.n_ubatch) == (256, 128, 128)
        assert (params.n_threads, params.n_threads_batch) == (1, 2)
        assert (params.type_k, params.rope_freq_base) == (llama_cpp.GGML_TYPE_Q8_0, 10000.0)
        assert (llm.chat_format, llm.kv_overrides) == ("chatml", extra["kv_overrides"])
        assert llm.model_params.split_mode == llama_cpp.LLAMA_SPLIT_MODE_LAYER
        assert llm.create_completion("a", max_tokens=2)["usage"]["completion_tokens"] == 2
    finally:
        llm.close()
    assert "# max_tokens: in each request, max_tokens=8\n" in code


def test_an_adapter_goes_along() -> None:
    model, adapter = tiny_llama(), str(tiny_lora())
    extra = {"lora_path": adapter, "lora_scale": 0.5}
    server = _exported("llama-server", model, extra=extra)
    assert f"--lora-scaled {adapter}:0.5" in server
    assert "--load-mode none" in server  # as llama-cpp-python loads it
    assert f"\nADAPTER {adapter}\n" in _exported("ollama", model, extra={"lora_path": adapter})
    assert f'lora_path="{adapter}"' in _exported("python", model, extra=extra)


def test_a_hub_model_is_named_and_not_downloaded() -> None:
    path = "hf://owner/repo@v2/sub/model-Q4.gguf"
    assert "  -hf owner/repo -hff sub/model-Q4.gguf \\\n" in _exported(
        "llama-server", None, model_path=path
    )
    assert "\nFROM hf.co/owner/repo:model-Q4.gguf\n" in _exported("ollama", None, model_path=path)
    for program in ("llama-server", "ollama"):
        assert "# Revision v2 of the model can't be named" in _exported(
            program, None, model_path=path
        )
    code = _exported("python", None, model_path=path)
    compile(code, "exported", "exec")
    assert 'hf_hub_download("owner/repo", "sub/model-Q4.gguf", revision="v2")' in code


def test_a_split_model_is_to_be_merged_for_ollama() -> None:
    text = _exported("ollama", tiny_llama(shards=2))
    assert "merge them first: llama-gguf-split --merge FIRST OUT" in text


@pytest.mark.parametrize("program", ["llama-server", "ollama", "python"])
def test_what_can_not_be_exported_is_refused(program: Program) -> None:
    with pytest.raises(ExportError, match=r"llm\.engine is app, which does not use llama.cpp's"):
        _exported(program, None, engine="app", target="a:b")
    for name in ("a\nb.gguf", "a\udcff.gguf"):
        with pytest.raises(ExportError, match="can't be printed; rename the file"):
            _exported(program, name)


def test_the_command_prints_the_projects_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_llama(), tmp_path / "m.gguf")
    (tmp_path / "config.yaml").write_text("llm: {model_path: m.gguf, n_threads: 3}\n")
    monkeypatch.setenv("LLMPERF_LLM__N_BATCH", "64")
    assert main(["export", "ollama", "--set", "llm.seed=5"]) == 0
    text = capsys.readouterr().out
    assert f"\nFROM {tmp_path / 'm.gguf'}\n" in text
    for line in ("num_thread 3", "num_batch 64", "seed 5"):
        assert f"\nPARAMETER {line}\n" in text
    assert main(["export", "python", "--set", "llm.n_bach=1"]) == 2
    assert "--set llm.n_bach: unknown key" in capsys.readouterr().err
    assert main(["export", "llama-server", "--set", "llm.model_path=gone.gguf"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["export", "ollama", "--set", "{engine: app}"]) == 2


def test_the_page_names_every_setting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    keys = set(LlamaCppConfig.model_fields) - {"engine", "target"}
    assert {key for key in keys if key not in page} == set()
