from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet

from pytest_llmperf.packages import specs
from pytest_llmperf.packages.requirement_file import read_requirement_file
from pytest_llmperf.packages.tables import requirements_of, specifier_of


@pytest.mark.parametrize(
    ("written", "inside", "outside"),
    [
        ("^1.2.3", ["1.2.3", "1.9"], ["2.0", "1.2.2"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3", "1.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        ("^0", ["0.5"], ["1.0"]),
        ("~1.2.3", ["1.2.9"], ["1.3"]),
        ("~1", ["1.9"], ["2.0"]),
        ("1.2", ["1.2"], ["1.2.1", "1.3"]),
        ("1.*", ["1.7"], ["2.0"]),
        (">=1, <2", ["1.5"], ["2.0"]),
        ("*", ["0.1"], []),
    ],
)
def test_versions_of_tables_mean_what_their_tool_says(written, inside, outside):
    specifier = SpecifierSet(specifier_of(written))
    assert [version for version in [*inside, *outside] if version in specifier] == inside


@pytest.mark.parametrize("written", ["^1 || ^2", "latest", "^x"])
def test_versions_without_a_counterpart_are_left_as_they_are(written):
    assert specifier_of(written) is None
    assert requirements_of("toy", written) == [f"toy {written}"]


@pytest.mark.parametrize(
    ("entry", "spelled"),
    [
        ({"version": "^1", "extras": ["b", "a"]}, "toy[a,b]<2,>=1"),
        ({"git": "https://example.com/t", "tag": "v1"}, "toy @ git+https://example.com/t@v1"),
        ({"url": "https://example.com/t.whl"}, "toy @ https://example.com/t.whl"),
        ({"path": "../toy", "develop": True}, "local:../toy"),
        ({"version": "*", "python": "<3.11"}, 'toy; python_version < "3.11"'),
        ({"version": "1", "markers": "os_name == 'nt'"}, 'toy==1; os_name == "nt"'),
    ],
)
def test_entries_of_tables_become_requirements(entry, spelled):
    assert requirements_of("toy", entry) == [spelled]


@pytest.mark.parametrize(
    ("line", "spelled"),
    [
        ("-e .[dev,Fast]", "local:.[dev,fast]"),
        ("./libs/core", "local:libs/core"),
        ("--editable=libs/core", "local:libs/core"),
        ("-e git+https://example.com/t@v1#egg=toy", "toy @ git+https://example.com/t@v1"),
        (
            "Toy_Box==1 --hash=sha256:b --hash=sha256:a",
            "toy-box==1 --hash=sha256:a --hash=sha256:b",
        ),
        ("https://example.com/toy.whl", "https://example.com/toy.whl"),
    ],
)
def test_lines_of_requirements_files_are_understood(tmp_path, line, spelled):
    (tmp_path / "requirements.txt").write_text(line)
    assert read_requirement_file(tmp_path / "requirements.txt", tmp_path).lines == (spelled,)


def test_a_package_of_the_same_repository_is_inside_it(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "app").mkdir()
    file = tmp_path / "app" / "requirements.txt"
    file.write_text("-e ../core\n-r ../all.txt\n-e ../../elsewhere\n")
    found = read_requirement_file(file, tmp_path / "app")
    assert found.lines == ("local:../core", "../../elsewhere")
    assert found.includes == ("../all.txt",)


def test_variables_of_the_environment_are_put_in(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_VERSION", "1")
    (tmp_path / "requirements.txt").write_text("toy==${TOY_VERSION}\n")
    assert read_requirement_file(tmp_path / "requirements.txt", tmp_path).lines == ("toy==1",)


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("2.3.0+cu121", "==2.3.0", True),
        ("2.0rc1", ">=1", True),
        ("not-a-version", "==not-a-version", True),
        ("not-a-version", ">=1", False),
    ],
)
def test_installed_versions_are_compared_as_installers_do(version, specifier, expected):
    assert specs.holds(version, specifier) is expected
