"""A real browser for tests: Debian's chromium, driven through its debugging pipe (DevTools protocol).

No package is needed: the browser reads JSON from one pipe and writes to another, each message ended by a zero
byte. Everything it says on its console, and every request it makes, is kept.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """The browser's program, or None."""
    own = os.environ.get("WSSSBENCH_CHROMIUM")
    return own or next((path for name in NAMES if (path := shutil.which(name))), None)


def _high(descriptor: int) -> int:
    """The descriptor moved out of the way of 3 and 4."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return moved


class Chromium:
    """One browser with one page; use as a context manager."""

    def __init__(self, program: str, profile: Path) -> None:
        its_input, self.to = map(_high, os.pipe())
        self.back, its_output = map(_high, os.pipe())
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
                 "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
                 "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank")  # fmt: skip
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2),
                   (os.POSIX_SPAWN_DUP2, its_input, 3), (os.POSIX_SPAWN_DUP2, its_output, 4)]  # fmt: skip
        home = {**os.environ, "HOME": str(profile)}
        self.pid = os.posix_spawn(program, [program, *flags], home, file_actions=actions, setpgroup=0)
        for descriptor in (its_input, its_output, null):
            os.close(descriptor)
        self.number, self.unread, self.session = 0, b"", ""
        self.problems: list[str] = []  # console errors and exceptions
        self.requests: list[str] = []  # addresses that pages have asked for

    def __enter__(self) -> Chromium:
        page = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.to)
        os.close(self.back)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The browser's answer to a command; RuntimeError for a refusal."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data) :]
        until = time.monotonic() + PATIENCE_S
        while True:
            answer = self._read(until)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self, until: float) -> dict[str, Any]:
        while b"\0" not in self.unread:
            if not select.select([self.back], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError("chromium does not answer")
            part = os.read(self.back, 1 << 20)
            if not part:
                raise RuntimeError("chromium has ended")
            self.unread += part
        text, _, self.unread = self.unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(params["exceptionDetails"])[:500])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(json.dumps(params["args"])[:500])
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    # ------------------------------------------------------------------------------------------ what tests do

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """Set the window's size in CSS pixels, and whether the system is light or dark."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=media)

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded."""
        self.send("Page.navigate", url=path.resolve().as_uri())
        wait = "new Promise(r => document.readyState === 'complete' ? r() : addEventListener('load', r))"
        self.run(wait)
        self.settle()

    def settle(self) -> None:
        """Wait until the page has been laid out and drawn twice."""
        self.run(
            "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(r, 50))))"
        )

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited; RuntimeError where it throws."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(json.dumps(done["exceptionDetails"])[:800])
        return done["result"].get("value")

    def click(self, selector: str) -> None:
        """A true click of the mouse on the middle of the first element that fits, once it has come to rest:
        pictures that are loaded as they come into view move what is below them."""
        place = f"document.querySelector({json.dumps(selector)})"
        box, before = self._middle(place), None
        while box != before:
            box, before = self._middle(place), box
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)
        self.settle()

    def _middle(self, place: str) -> list[float]:
        """Where the middle of an element is, brought into view and drawn."""
        self.run(f"{place}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        self.settle()
        middle: list[float] = self.run(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])({place}.getBoundingClientRect())"
        )
        return middle

    def press(self, key: str, code: int) -> None:
        """A key of the keyboard, to whatever has the focus."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        self.settle()

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
