"""Headless Chromium, spoken to in its DevTools protocol over a pipe."""

import base64
import json
import os
import select
import subprocess

SECONDS = 60
"""That an answer may take."""


class Chromium:
    """One browser with one tab; everything that it says while a page loads is kept."""

    def __init__(self, program, profile):
        theirs, self._to = os.pipe()
        self._from, back = os.pipe()
        words = [
            *(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
            *(f"--user-data-dir={profile}", "--remote-debugging-pipe"),
        ]
        # The protocol is on descriptors 3 and 4.
        script = f'exec "$@" 3<&{theirs} 4>&{back}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *words],
            pass_fds=(theirs, back),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(back)
        self._left, self._number, self._session = b"", 0, None
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        os.write(self._to, b'{"id": 0, "method": "Browser.close"}\0')
        self._process.wait(SECONDS)
        os.close(self._to)
        os.close(self._from)

    def call(self, method, **parameters):
        """What a method of the protocol answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (found := self._read()).get("id") != self._number:
            pass
        assert "error" not in found, f"{method}: {found['error']}"
        return found["result"]

    def open(self, file, *, width=1280, height=900, dark=False):
        """Load a file in a window of a size; whatever the browser says of it is in `events`."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=file.resolve().as_uri())
        while "Page.loadEventFired" not in [event["method"] for event in self.events]:
            self._read()

    def measure(self, script):
        """The value of an expression of the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def requests(self):
        """Addresses that the page asked for, itself among them."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self):
        """What is in the console."""
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [event for event in self.events if event["method"] in kinds]

    def screenshot(self):
        """The window as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def _read(self):
        """The next message; one that is no answer is kept."""
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._from], [], [], SECONDS)
            assert ready, f"Chromium said nothing for {SECONDS} seconds"
            read = os.read(self._from, 1 << 16)
            assert read, "Chromium has gone"
            self._left += read
        first, _, self._left = self._left.partition(b"\0")
        found = json.loads(first)
        if "id" not in found:
            self.events.append(found)
        return found
