"""Build the documentation site from docs/ and the README, and check it.

Run as ``python tools/docs_site.py [FOLDER]`` (default: build/docs). The README becomes the front
page. The build is strict: a link to a page or a heading that does not exist ends it. Afterwards
the pages are checked for requests to other hosts, which the site must not make.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
#: Further pages besides those in docs/: file in the repository, by the name of the page.
ROOT_PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "license.md": "LICENSE",
}
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")
_NAV_PAGE = re.compile(r'^\s*\{ "[^"]+" = "([^"]+)" \},\n', re.MULTILINE)
_EMPTY_SECTION = re.compile(r'^  \{ "[^"]+" = \[\n  \] \},\n', re.MULTILINE)
#: Script for searching from the file system; zensical would have every reader fetch it.
_WORKER = "https://unpkg.com/iframe-worker/shim"
#: Classes for which the theme's script fetches another script from another host.
_LOADING = {"mermaid", "glightbox", "pyodide"}
_COLOR = re.compile(r"\x1b\[[\d;]*m")
_CSS_URL = re.compile(r"@import\s+[\"']([^\"']+)|url\(\s*[\"']?([^\"')]+)")


class SiteError(Exception):
    """The site can't be built, or is wrong; the message says what is."""


def on_site(link: str) -> str:
    """Return the page of the site to which a link from a file in the root folder leads."""
    names = {source: page for page, source in ROOT_PAGES.items()}
    return names.get(link, link.removeprefix("docs/"))


def stage(folder: Path, root: Path = ROOT) -> list[str]:
    """Put the pages and the settings into ``folder``; return the pages' names."""
    pages = folder / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(root / "docs", pages)
    for page, source in ROOT_PAGES.items():
        text = (root / source).read_text(encoding="utf-8")
        if source == "LICENSE":
            text = f"# Licence\n\n{text}"
        (pages / page).write_text(_LINK.sub(lambda m: on_site(m[1]), text), encoding="utf-8")
    names = sorted(str(page.relative_to(pages).as_posix()) for page in pages.rglob("*.md"))
    settings = (root / "zensical.toml").read_text(encoding="utf-8")
    unlisted = set(names) - set(_NAV_PAGE.findall(settings))
    if unlisted:
        raise SiteError(f"not in the navigation of zensical.toml: {', '.join(sorted(unlisted))}")
    present = _NAV_PAGE.sub(lambda m: m[0] if m[1] in names else "", settings)
    present = _EMPTY_SECTION.sub("", present)
    (folder / "zensical.toml").write_text(present, encoding="utf-8")
    return names


def build(folder: Path, root: Path = ROOT) -> Path:
    """Build the site strictly into ``folder``; return the folder of its pages.

    Raises:
        SiteError: zensical found a fault; the message has its output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stage(folder, root)
    shutil.rmtree(folder / "site", ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", "zensical.toml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not (folder / "site" / "index.html").is_file():
        raise SiteError(_COLOR.sub("", f"{done.stdout}{done.stderr}").partition("\nTraceback")[0])
    _add_worker(folder / "site")
    return folder / "site"


def _add_worker(site: Path) -> None:
    """Put the script for searching from the file system into the site, and let pages use it."""
    script = shutil.copy(ROOT / "tools" / "site" / "iframe-worker.js", site / "assets")
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        address = os.path.relpath(script, page.parent).replace(os.sep, "/")
        page.write_text(text.replace(_WORKER, address), encoding="utf-8")


class _Page(HTMLParser):
    """Reads the anchors, classes, links and requested resources of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.classes: set[str] = set()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attributes}
        self.classes |= set(given.get("class", "").split())
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.resources.append(given.get("href", ""))
        self.resources += [
            given[key] for key in ("src", "srcset", "poster", "data") if key in given
        ]


def faults(site: Path) -> Iterator[str]:
    """Yield the broken links and anchors of a built site, and its requests to other hosts."""
    pages = {
        page.resolve(): _Page(page.read_text(encoding="utf-8")) for page in site.rglob("*.html")
    }
    for path, page in pages.items():
        name = path.relative_to(site.resolve()).as_posix()
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                yield f"{name}: broken link {link}"
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].anchors
            ):
                yield f"{name}: broken anchor {link}"
        for loading in sorted(page.classes & _LOADING):
            yield f"{name}: class {loading} requests a script"
        for resource in page.resources:
            if urlsplit(resource).netloc:
                yield f"{name}: requests {resource}"
    for style in site.rglob("*.css"):
        for match in _CSS_URL.finditer(style.read_text(encoding="utf-8")):
            address = match[1] or match[2]
            if urlsplit(address).netloc:
                yield f"{style.relative_to(site).as_posix()}: requests {address}"


def main(arguments: list[str]) -> int:
    """Build and check the site."""
    folder = Path(arguments[0]) if arguments else ROOT / "build" / "docs"
    site = build(folder)
    problems = list(faults(site))
    for fault in problems:
        print(fault)
    print(f"{site / 'index.html'}: {'wrong' if problems else 'built'}")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SiteError as problem:
        sys.exit(f"docs: {problem}")
