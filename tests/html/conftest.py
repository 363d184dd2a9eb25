"""A browser for tests of the HTML page; the reports use the builders of tests/report."""

from __future__ import annotations

import http.server
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.report.html import write_html

if TYPE_CHECKING:
    from pages import Browser, Page

sys.path.append(str(Path(__file__).parents[1] / "report"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start Debian's Chromium without a window."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install chromium chromium-driver")
    from pages import Browser

    chromium = Browser(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, list[str]]]:
    """Serve a folder on this machine; yield it, its address, and the paths that were requested."""
    folder, asked = tmp_path_factory.mktemp("pages"), list[str]()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def show(browser: Browser, served: tuple[Path, str, list[str]]) -> Callable[..., Page]:
    """Return a function that writes a report's page and opens it."""
    folder, address, asked = served

    def write_and_open(report: dict[str, Any], *, samples: bool = False, **view: Any) -> Page:
        # The browser would cache a page of the same name.
        name = f"page-{len([*folder.iterdir()])}.html"
        write_html(report, folder / name, samples=samples)
        asked.clear()
        return browser.open(f"{address}/{name}", asked, **view)

    return write_and_open
