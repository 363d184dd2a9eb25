"""Chromium, and what a page in it shows and reports."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

#: JavaScript that returns, for each chart, whether anything is painted on it.
_PAINTED = """
return [...document.querySelectorAll('.plot canvas')].map((canvas) => {
  const {width, height} = canvas;
  const all = canvas.getContext('2d').getImageData(0, 0, width, height).data;
  return all.some((one) => one !== 0);
});
"""


class Browser:
    """A Chromium whose profile lies in ``folder``."""

    def __init__(self, folder: Path) -> None:
        options = webdriver.ChromeOptions()
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--hide-scrollbars",
            f"--user-data-dir={folder}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        self.driver.set_script_timeout(30)

    def open(
        self,
        address: str,
        asked: list[str],
        *,
        width: int = 1200,
        height: int = 1000,
        dark: bool = False,
        script: bool = True,
        media: str = "",
    ) -> Page:
        """Open a page with a colour scheme, a window size and, where asked, no script."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.command("Emulation.setScriptExecutionDisabled", value=not script)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(address)
        return Page(self, address, asked)

    def command(self, name: str, **arguments: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def close(self) -> None:
        """End the browser."""
        self.driver.quit()


class Page:
    """The page that is open."""

    def __init__(self, browser: Browser, address: str, asked: list[str]) -> None:
        self._browser = browser
        self._driver = browser.driver
        self.address = address
        #: The paths that were requested from the server.
        self.asked = asked

    def js(self, code: str, *arguments: Any) -> Any:
        """Run a function's body in the page."""
        return self._driver.execute_script(code, *arguments)

    def text(self, selector: str = "body") -> str:
        """Return the text that is shown."""
        shown: str = self.js("return document.querySelector(arguments[0]).innerText", selector)
        return shown

    def count(self, selector: str) -> int:
        """Return how many elements match."""
        found: int = self.js("return document.querySelectorAll(arguments[0]).length", selector)
        return found

    def visible(self, selector: str) -> list[str]:
        """Return the text of every matching element that takes up space."""
        return list(
            self.js(
                "return [...document.querySelectorAll(arguments[0])]"
                ".filter((one) => one.getClientRects().length).map((one) => one.textContent)",
                selector,
            )
        )

    def focus(self, selector: str) -> None:
        """Move the keyboard's focus to the first match."""
        self.js("document.querySelector(arguments[0]).focus()", selector)

    def keys(self, text: str) -> None:
        """Press a key by its name, or type a text, where the focus is."""
        pressed = getattr(Keys, text, text) if text.isupper() else text
        ActionChains(self._driver).send_keys(pressed).perform()

    def errors(self) -> list[str]:
        """Return the messages of the console, including violations of the content policy."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the address of every request that the page made, including its own."""
        addresses = []
        for entry in self._driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                addresses.append(message["params"]["request"]["url"])
        return addresses

    def open_all(self) -> None:
        """Open every test and wait for its charts."""
        self.js("document.getElementById('open').click()")
        self.see_everything()

    def see_everything(self) -> None:
        """Bring every open chart into view, and wait until all are drawn."""
        self.js(
            "document.querySelectorAll('details[open] .charts:not([data-drawn])')"
            ".forEach((one) => one.scrollIntoView())"
        )
        for _ in range(300):
            left = self.js(
                "const all = [...document.querySelectorAll('details[open]:not([hidden]) .charts')]"
                ".filter((one) => !one.querySelector('canvas'));"
                "all[0]?.scrollIntoView(); return all.length"
            )
            if not left:
                return
            time.sleep(0.02)
        raise AssertionError(f"{left} tests have no chart")

    def painted(self) -> list[bool]:
        """Return for each chart whether anything is painted on it."""
        return list(self.js(_PAINTED))

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        wider: int = self.js(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wider

    def picture(self, file: Path, selector: str = "body", height: int = 1000) -> None:
        """Write a picture of an element's upper part, in few colours if pngquant is installed."""
        left, top, width, full_height = self.js(
            "const at = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [at.left + scrollX, at.top + scrollY, at.width, at.height]",
            selector,
        )
        clip = {"x": left, "y": top, "width": width, "height": min(full_height, height), "scale": 1}
        shot = self._browser.command(
            "Page.captureScreenshot", captureBeyondViewport=True, clip=clip, format="png"
        )
        file.write_bytes(base64.b64decode(shot["data"]))
        if (pngquant := shutil.which("pngquant")) is not None:
            subprocess.run([pngquant, "--force", "--ext=.png", "64", str(file)], check=True)

    def printed(self) -> bytes:
        """Return the page as a PDF."""
        pdf = self._browser.command("Page.printToPDF", printBackground=True)
        return base64.b64decode(pdf["data"])
