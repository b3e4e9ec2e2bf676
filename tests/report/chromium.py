"""Headless Chromium over its debugging pipe: loads a page and says what happened in it.

The DevTools protocol on file descriptors 3 and 4, messages of JSON that end in a zero byte
(https://chromedevtools.github.io/devtools-protocol/): no driver, no socket, no further package.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_COMMAND: Final = (
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE_S: Final = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a page did: console and log entries that are errors, requests, sizes in CSS pixels."""

    complaints: tuple[str, ...]
    requests: tuple[str, ...]
    width: int
    scroll_width: int
    height: int


class Page:
    """One tab."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = str(attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command to the tab."""
        return self._call(method, self._session, **parameters)

    def look(self, file: Path, *, width: int, scheme: str) -> Seen:
        """Load a file at a width in CSS pixels, in `light` or `dark`."""
        self.visit(file.resolve().as_uri(), width=width, scheme=scheme)
        return self.seen()

    def visit(self, url: str, *, width: int, scheme: str) -> None:
        """Load an address at a width in CSS pixels, in `light` or `dark`."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media="screen", features=features)
        self._events.clear()
        self.call("Page.navigate", url=url)
        self._wait("Page.loadEventFired")

    def seen(self) -> Seen:
        """What the page has done since it was loaded, and its sizes."""
        script = (
            "[innerWidth, document.documentElement.scrollWidth, "
            "document.documentElement.scrollHeight].join()"
        )
        sizes = self.call("Runtime.evaluate", expression=script)["result"]["value"]
        inner, scroll, height = map(int, str(sizes).split(","))
        return Seen(
            complaints=tuple(self._complaints()),
            requests=tuple(self._requests()),
            width=inner,
            scroll_width=scroll,
            height=height,
        )

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self.call("Runtime.evaluate", expression=expression)["result"].get("value")

    def screenshot(self, seen: Seen, to: Path) -> None:
        """The whole page as PNG."""
        clip = {"x": 0, "y": 0, "width": seen.width, "height": seen.height, "scale": 1}
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        to.write_bytes(base64.b64decode(data))

    def print(self, to: Path) -> bytes:
        """The page as it is printed; the bytes of the PDF."""
        data = base64.b64decode(self.call("Page.printToPDF")["data"])
        to.write_bytes(data)
        return data

    def _complaints(self) -> Iterator[str]:
        for event in self._events:
            match event.get("method"):
                case "Log.entryAdded":
                    yield str(event["params"]["entry"]["text"])
                case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                    yield json.dumps(event["params"])

    def _requests(self) -> Iterator[str]:
        for event in self._events:
            if event.get("method") == "Network.requestWillBeSent":
                yield str(event["params"]["request"]["url"])

    def _call(self, method: str, session: str = "", **parameters: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def _wait(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._read())

    def _read(self) -> dict[str, Any]:
        end_s = time.monotonic() + _PATIENCE_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end_s - time.monotonic()))
            data = os.read(self._from, 1 << 16) if ready else b""
            assert data, "Chromium said nothing"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser with one tab; ended with the block."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # The shell puts the pipes where Chromium looks for them.
    shell = f'exec "$@" 3<&{to_read} 4>&{from_write}'
    command = ["bash", "-c", shell, "bash", *_COMMAND, f"--user-data-dir={profile}"]
    with subprocess.Popen(
        command, pass_fds=(to_read, from_write), stderr=subprocess.DEVNULL
    ) as browser:
        os.close(to_read)
        os.close(from_write)
        try:
            yield Page(to_write, from_read)
        finally:
            browser.terminate()
            browser.wait(20)
            os.close(to_write)
            os.close(from_read)
