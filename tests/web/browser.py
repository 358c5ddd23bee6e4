"""Chromium, driven for the tests: what it shows, what it logs, and what it asks the network for."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_PATIENCE = 30.0  # seconds


class Browser:
    """A fresh Chromium with a profile of its own."""

    def __init__(self, profile: Path, chromium: str, driver: str, flags: Sequence[str] = ()):
        options = Options()
        options.binary_location = chromium
        for flag in (*_FLAGS, f"--user-data-dir={profile}", *flags):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_script_timeout(_PATIENCE)
        self.requests: list[str] = []

    def open(self, address: str, *, width: int = 1280, height: int = 900) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        self.driver.get("about:blank")
        self.complaints()
        self.read_requests()
        self.requests.clear()
        self.driver.get(address)

    def command(self, name: str, arguments: dict[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.one(selector).text)

    def until(self, what: Any) -> Any:
        """Wait until a function gives something, and return it."""
        # The page exchanges elements while one is looked at.
        wait = WebDriverWait(self.driver, _PATIENCE, 0.05, [StaleElementReferenceException])
        return wait.until(lambda _: what())

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what the body of an async function gives, or `{"error": …, "name": …}`."""
        wrapped = f"""
            const [done, ...args] = [arguments[arguments.length - 1], ...arguments];
            (async () => {{ {script} }})().then(
                (value) => done(value),
                (error) => done({{ error: error.message, name: error.name }}));
        """
        return self.driver.execute_async_script(wrapped, *arguments)

    def complaints(self) -> list[str]:
        """Return what stands in the console since the last time."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def read_requests(self) -> list[str]:
        """Return the addresses that were asked for since the page was opened."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        return self.requests

    def close(self) -> None:
        self.driver.quit()
