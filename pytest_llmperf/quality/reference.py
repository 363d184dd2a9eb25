"""The reference and the text that a configuration names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.config.errors import ConfigError, ModelError, Problem
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.quality.errors import QualityError
from pytest_llmperf.quality.passages import Text
from pytest_llmperf.system_path import system_path

if TYPE_CHECKING:
    from pytest_llmperf.config.load import LoadedConfig
    from pytest_llmperf.engine.launch import LaunchSpec

_MODEL = "quality.reference.model_path"
NO_REFERENCE = (
    "quality is compared with a reference, and the configuration names none; set "
    f"{_MODEL} to a finer model of the same vocabulary, such as its F16 or Q8_0 file, or "
    "other settings under quality.reference, such as type_k: f16"
)


def reference_spec(loaded: LoadedConfig, spec: LaunchSpec) -> LaunchSpec:
    """Return the specification for starting the configured reference.

    Args:
        loaded: the configuration.
        spec: the specification for starting its own engine.

    Raises:
        QualityError: the configuration names no reference.
        ConfigError: the reference's model does not exist.
    """
    from pytest_llmperf.config.llm_section import ModelSettings

    llm = loaded.config.reference_llm
    if llm is None:
        raise QualityError(NO_REFERENCE)
    if not llm.kind.scores:
        raise QualityError(
            f"quality can't be measured: the engine {llm.engine!r} reports no probabilities; "
            "set llm.engine: llama_cpp"
        )
    if not isinstance(llm, ModelSettings):
        return replace(spec, config=llm.resolved())
    try:
        model = resolve_model(llm.model_path, loaded.base_dir)
    except ModelError as error:
        where = loaded.provenance.get(_MODEL, "configuration")
        key = "" if where.startswith(("--", "environment")) else _MODEL
        raise ConfigError([Problem(where, str(error), key)]) from None
    return replace(spec, config=llm.resolved(model))


def configured_text(loaded: LoadedConfig) -> Text | None:
    """Return the text that the configuration names, or None.

    Raises:
        QualityError: it can't be read.
    """
    name = loaded.config.quality.text
    if name is None:
        return None
    return Text.of_file(loaded.base_dir / system_path(name).expanduser())
