"""Chromium without a window, and what npm has."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from support.waiting import TIMEOUT, wait_until

WIDTHS = {"wide": (1280, 900), "narrow": (390, 844)}


def unpack(package: str, folder: Path) -> Path:
    """Get a package from npm, and return the folder with its files."""
    npm = shutil.which("npm")
    assert npm, "install npm"
    done = subprocess.run(
        [npm, "pack", package, "--json"], cwd=folder, check=True, capture_output=True, timeout=120
    )
    archive = folder / json.loads(done.stdout)[0]["filename"]
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "package"


@attrs.define(eq=False)
class Browser:
    """A browser that shows a hub's page."""

    driver: Any
    url: str
    requests: list[str] = attrs.field(factory=list)

    def go(self, path: str) -> None:
        self.driver.get(self.url + path)

    def show_as(self, width: str, scheme: str = "light") -> None:
        """Show pages in a width, in light or dark colours."""
        x, y = WIDTHS[width]
        size = {"width": x, "height": y, "deviceScaleFactor": 1, "mobile": width == "narrow"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str, text: str = "") -> Any:
        """Wait for an element that is shown, and return it."""

        def search() -> Any:
            script = """
                return [...document.querySelectorAll(arguments[0])].find((element) =>
                    element.checkVisibility() && element.innerText.includes(arguments[1]))"""
            return self.run(script, selector, text)

        return wait_until(search)

    def click(self, selector: str, text: str = "") -> None:
        """Click an element as soon as it stays in its place."""
        from selenium.common.exceptions import StaleElementReferenceException

        def act() -> bool:
            try:
                self.find(selector, text).click()
            except StaleElementReferenceException:
                return False
            return True

        wait_until(act)

    def fill(self, selector: str, text: str) -> None:
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    @property
    def text(self) -> str:
        return str(self.run("return document.body ? document.body.innerText : ''"))

    def wait_for(self, text: str) -> None:
        """Wait until the page shows a text."""
        wait_until(lambda: text in self.text)

    @property
    def path(self) -> str:
        return str(self.driver.current_url).removeprefix(self.url)

    def note_requests(self) -> list[str]:
        """Return the addresses of all requests so far."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        return self.requests

    def complaints(self) -> list[str]:
        """Return what the console has, such as broken rules of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextlib.contextmanager
def open_browser(url: str) -> Iterator[Browser]:
    """Run Chromium; it finds no host but this machine."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            options.binary_location = path
            break
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(TIMEOUT)
    try:
        yield Browser(driver, url)
    finally:
        driver.quit()
