"""The site builds strictly, its links and headings exist, and it loads nothing from other hosts."""

from __future__ import annotations

import shutil
from pathlib import Path

import docs_site
import pytest

pytest.importorskip("zensical")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return docs_site.build(tmp_path_factory.mktemp("docs"))


@pytest.fixture
def small(tmp_path: Path, root: Path) -> Path:
    """A folder with a few short pages in place of the repository's."""
    for name in (*docs_site.ROOT_PAGES.values(), "zensical.toml"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "README.md").write_text("# Front\n\n[Math](docs/math.md), [licence](LICENSE)\n")
    (tmp_path / "CONTRIBUTING.md").write_text("# Contributing\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "math.md").write_text("# Mathematics\n\n## Odds\n\n[here](#odds)\n")
    return tmp_path


def test_links_headings_and_resources_are_right(site: Path, root: Path) -> None:
    assert list(docs_site.faults(site)) == []
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    for page in (root / "docs").rglob("*.md"):
        assert page.relative_to(root / "docs").with_suffix(".html").as_posix() in pages
    assert {"index.html", "contributing.html", "changelog.html", "license.html"} <= pages


def test_the_front_page_is_the_readme_and_search_works_offline(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    assert "First verdict" in front
    assert 'href="first-hour.html"' in front
    assert "fonts.googleapis" not in front
    index = [path for path in site.rglob("search*") if path.is_file()]
    assert index
    assert any("KV cache" in path.read_text(encoding="utf-8") for path in index)


def test_lists_and_tables_are_rendered(site: Path) -> None:
    """Markdown leaves a list or table that it does not recognise as text."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8").partition("<article")[2].partition("</article")[0]
        assert "<p>- " not in text, page.name
        assert "<p>| " not in text, page.name


@pytest.mark.parametrize(
    ("added", "found"),
    [
        ("[gone](nowhere.md)", "nowhere.md"),
        ("[gone](math.md#nothing)", "nothing"),
    ],
)
def test_a_broken_link_ends_the_build(small: Path, added: str, found: str) -> None:
    page = small / "docs" / "math.md"
    page.write_text(f"{page.read_text()}\n{added}\n")
    with pytest.raises(docs_site.SiteError, match=found):
        docs_site.build(small / "build", small)


def test_a_page_outside_of_the_navigation_is_refused(small: Path) -> None:
    (small / "docs" / "lost.md").write_text("# Lost\n")
    with pytest.raises(docs_site.SiteError, match=r"not in the navigation .*: lost\.md"):
        docs_site.stage(small / "build", small)


def test_faults_of_a_built_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<p id="x" class="mermaid"></p><a href="#x">1</a><a href="#y">2</a><a href="b.html">3</a>'
        '<a href="https://host/page">4</a><script src="https://cdn/x.js"></script>'
        '<link rel="stylesheet" href="https://fonts/x.css">'
    )
    (tmp_path / "a.css").write_text('@import "https://fonts/y.css"; b { background: url(c.png) }')
    assert list(docs_site.faults(tmp_path)) == [
        "a.html: broken anchor #y",
        "a.html: broken link b.html",
        "a.html: class mermaid requests a script",
        "a.html: requests https://cdn/x.js",
        "a.html: requests https://fonts/x.css",
        "a.css: requests https://fonts/y.css",
    ]
