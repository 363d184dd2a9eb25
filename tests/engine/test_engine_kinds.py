"""The engines that ``llm.engine`` may name: ours, installed packages', and unusable ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import outside_packages
import pytest

from pytest_llmperf.api import configuration
from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineLoadError
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.engine.planted import Plant
from pytest_llmperf.engine_kinds import GROUP, OWN, EngineKind, EngineKindError, engine_kind

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

Install = Callable[..., None]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """Install a package with this name, these entry points and modules."""

    def put(name: str, entries: dict[str, str], **modules: str) -> None:
        site = tmp_path / name
        outside_packages.install(monkeypatch, site, name, GROUP, entries, **modules)

    return put


def test_ours_are_declared_as_any_package_declares_its_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"][GROUP] == OWN
    for name in OWN:
        assert engine_kind(name).name == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "lama_cpp",
            "no engine 'lama_cpp' is installed (installed: app, llama_cpp, server); did you mean ",
        ),
        ("vllm", "(installed: app, llama_cpp, server); install the package that provides it"),
    ],
)
def test_an_unknown_name_lists_what_is_installed(name: str, says: str) -> None:
    with pytest.raises(EngineKindError) as caught:
        engine_kind(name)
    assert says in str(caught.value)


def test_a_broken_package_is_an_error_only_where_its_engine_is_asked_for(install: Install) -> None:
    install("acme", {"acme": "acme_broken:KIND"}, acme_broken="import no_such_library")
    assert engine_kind("llama_cpp").needs == "model"
    with pytest.raises(EngineKindError) as caught:
        engine_kind("acme")
    assert str(caught.value) == (
        "the engine 'acme' of the package acme can't be loaded (acme_broken:KIND): "
        "ModuleNotFoundError: No module named 'no_such_library'; fix or uninstall that package"
    )


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("KIND = 'acme_engine:Engine'", "expected an EngineKind, got str"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("", "AttributeError: module "),
        ("KIND = EngineKind('other', 'a:B')", "its EngineKind is called 'other'"),
        (
            "KIND = EngineKind('acme', 'a.B')",
            "ValueError: engine: expected package.module:Cl",
        ),
        (
            "KIND = EngineKind('acme', dict)",
            "ValueError: engine: expected package.module:Class, got",
        ),
        ("KIND = EngineKind(5, 'a:B')", "ValueError: name: expected text, got 5"),
        ("KIND = EngineKind('acme', 'a:B', options=dict)", "ValueError: options: expected a pydan"),
        ("KIND = EngineKind('acme', 'a:B', backend='cuda')", "ValueError: backend: expected a fun"),
        (
            "KIND = EngineKind('acme', 'a:B', side_by_side='no')",
            "ValueError: side_by_side: expecte",
        ),
        (
            "KIND = EngineKind('acme', 'a:B', needs='gguf')",
            "ValueError: needs: expected 'mod",
        ),
    ],
)
def test_what_is_no_kind_is_told(
    install: Install, request: pytest.FixtureRequest, source: str, says: str
) -> None:
    module = f"acme_{abs(hash(request.node.name))}"
    install(
        "acme",
        {"acme": f"{module}:KIND"},
        **{module: f"from pytest_llmperf.extension import EngineKind\n{source}\n"},
    )
    with pytest.raises(EngineKindError) as caught:
        engine_kind("acme")
    assert "the engine 'acme' of the package acme can't be loaded" in str(caught.value)
    assert says in str(caught.value)


def test_a_function_of_a_kind_that_fails_is_named_before_anything_starts(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    faults = {
        "identity=lambda llm: llm['extra']['url']": "identity: it raised KeyError: 'url'",
        "identity=lambda llm: None": "identity: expected text, got None",
        "backend=lambda: 1 / 0": "backend: it raised ZeroDivisionError: division by zero",
        "backend=lambda: None": "backend: expected text, got None",
        "refused_options=lambda names: 1 / 0": "refused_options: it raised ZeroDivisionError",
        "refused_options=lambda names: ['a']": "refused_options: expected a dict, got ['a']",
    }
    names = {f"fault{number}": source for number, source in enumerate(faults)}
    kinds = [f"{n.upper()} = EngineKind({n!r}, 'a:B', {source})" for n, source in names.items()]
    source = "\n".join(["from pytest_llmperf.extension import EngineKind", *kinds])
    install("acme", {n: f"failing_kinds:{n.upper()}" for n in names}, failing_kinds=source)
    for name, fault in names.items():
        with pytest.raises(ConfigError) as caught:
            configuration(llm={"engine": name, "extra": {"a": 1}})
        assert str(caught.value).startswith(
            f"argument llm.engine: the engine {name!r} can't be used: its {faults[fault]}"
        )
        assert str(caught.value).endswith("; fix or uninstall the package that provides it")


def test_two_packages_with_one_name_are_both_named(install: Install) -> None:
    install("acme", {"twice": "acme_one:KIND"})
    install("zeta", {"twice": "zeta_one:KIND"})
    with pytest.raises(EngineKindError, match="packages acme and zeta both provide the engine"):
        engine_kind("twice")


def test_no_package_takes_the_place_of_one_of_ours(install: Install) -> None:
    install("acme", {"app": "acme_app:KIND"})
    with pytest.raises(EngineKindError, match="acme and pytest-llmperf both provide"):
        engine_kind("app")


def test_another_version_of_the_plugin_beside_this_copy_changes_nothing(install: Install) -> None:
    """As in another commit's environment that has an older version installed."""
    install("pytest-llmperf", {"app": "pytest_llmperf.moved:APP"})
    assert engine_kind("app").needs == "target"


def test_an_engine_is_called_by_its_target_or_its_kind() -> None:
    assert LaunchSpec("app", {"target": "a:b"}).name == "a:b"
    assert LaunchSpec("llama_cpp", {"target": None, "model_path": "x"}).name == (
        "the llama_cpp engine"
    )


def test_a_slowdown_is_never_planted_in_vain(install: Install) -> None:
    source = "from pytest_llmperf.extension import EngineKind\nKIND = EngineKind('acme', 'a:B')\n"
    install("acme", {"acme": "acme_plain:KIND"}, acme_plain=source)
    with pytest.raises(EngineLoadError, match="the acme engine does not support planted slowdowns"):
        EngineClient.start(LaunchSpec("acme", {}, plant=Plant(0.05)))


def test_every_default_claims_the_least() -> None:
    kind = EngineKind("acme", "acme:Engine")
    assert kind.backend_name == "app"
    assert kind.may_use_gpu
    assert kind.identity_without_model({}) == "acme"
    assert not kind.refused({"anything": 1})
