"""A headless Chromium for the tests of pages, and what every page has to hold.

Debian's packages chromium and chromium-driver; `.ci/run` installs them. Where they are missing, the tests are skipped,
unless the environment's CI says that nothing may be.
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

import pytest

_WIDE, _PHONE = (1280, 900), (390, 844)
_NAMES = {"browser": ("chromium", "chromium-browser", "google-chrome"), "driver": ("chromedriver",)}


@contextlib.contextmanager
def started() -> Iterator["Browser"]:
    """One Chromium, for as many pages as there are."""
    found = {what: next(filter(None, map(shutil.which, names)), None) for what, names in _NAMES.items()}
    if None in found.values():
        reason = "no Chromium: apt-get install chromium chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found["browser"]
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(found["driver"]))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """`driver` is Selenium's; the rest is what tests of pages ask for."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, page: pathlib.Path, size: tuple[int, int] = _WIDE, *, dark: bool = False) -> None:
        """Opens a file in a window of this size, in CSS pixels, as a reader with a light or a dark system meets it."""
        self._emulate(size, dark)
        self.driver.execute_script("try { localStorage.clear() } catch {}")  # the theme that another test chose
        for log in ("browser", "performance"):
            self.driver.get_log(log)  # what other pages left
        self.driver.get(page.resolve().as_uri())

    def open_on_a_phone(self, page: pathlib.Path, *, dark: bool = False) -> None:
        self.open(page, _PHONE, dark=dark)

    def _emulate(self, size: tuple[int, int], dark: bool) -> None:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        # without motion, so that nothing is met halfway
        features = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        media = {"features": [{"name": name, "value": value} for name, value in features.items()]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def all(self, selector: str) -> list:
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())"
        return self.driver.execute_script(script, selector)

    def evaluate(self, expression: str):
        return self.driver.execute_script(f"return {expression}")

    def complaints(self) -> list[str]:
        """What stands on the console since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What the page asked for since it was opened: itself is `file:`, what is embedded is `data:`."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        sent = (m["params"] for m in messages if m["method"] == "Network.requestWillBeSent")
        return [params["request"]["url"] for params in sent]

    def overflow(self) -> int:
        """CSS pixels by which the page is wider than its window."""
        return self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def violations(self) -> list[str]:
        """What axe-core finds that is serious or critical, one line each."""
        from axe_selenium_python import Axe

        axe = Axe(self.driver)
        axe.inject()
        found = axe.run(options='{resultTypes: ["violations"]}')
        assert found["passes"]  # it looked
        return [
            f"{each['impact']}: {each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]} "
            f"({len(each['nodes'])} in all)"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]

    def picture(self, path: pathlib.Path) -> None:
        """The whole page as PNG, to be looked at."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}

        shot = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        data = self.driver.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
        path.write_bytes(base64.b64decode(data))
