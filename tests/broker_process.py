"""A Barnabas broker as a process of its own, for tests that talk to it with real clients or kill it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["BrokerProcess", "DidNotStart", "wait_until"]

_READY = re.compile(r"address=(\S+)")
_START_DEADLINE_S = 90
_STOP_DEADLINE_S = 90
_REFUSAL_DEADLINE_S = 30
"""How long a broker that will not be ready may take to end."""


class DidNotStart(AssertionError):  # noqa: N818 - it says what happened
    """The broker ended, or had to be killed, before it was ready.

    Attributes:
        exit_status: What it ended with by itself; None if it had to be killed.
    """

    def __init__(self, message: str, exit_status: int | None) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def wait_until(condition, deadline_s: float = 30.0, what: str = "the condition"):
    """Waits until `condition()` is true and gives what it gave; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"{what} did not come true within {deadline_s} s"
        time.sleep(0.01)


class BrokerProcess:
    """`barnabas serve` on a port of its own, with its data in `directory`.

    A restart keeps port and data, so that clients find it again. `command` is what runs in place of the `barnabas` of
    the checkout.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        port: int = 0,
        command: Sequence[str] = (sys.executable, "-m", "barnabas"),
        listen_host: str = "127.0.0.1",
    ) -> None:
        self.directory = directory
        self.data_directory = directory / "data"
        self.log_path = directory / "broker.log"
        self.settings = dict(settings or {})
        self.port = port
        self.listen_host = listen_host
        self.command = tuple(command)
        self.process: subprocess.Popen[str] | None = None

    @property
    def bootstrap_server(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> BrokerProcess:
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [*self.command, "serve", "--listen", f"{self.listen_host}:{self.port}"]
        command += ["--data-dir", str(self.data_directory)]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("BARNABAS_")}
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        line = self._first_line()
        ready = _READY.search(line)
        if not ready:
            exit_status = self._refusal()
            raise DidNotStart(f"the broker did not start: {line!r}\n{self.log_tail()}", exit_status)
        self.port = int(ready[1].rpartition(":")[2])
        return self

    def _first_line(self) -> str:
        lines: list[str] = []
        assert self.process is not None
        reader = threading.Thread(target=lambda: lines.append(self.process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(_START_DEADLINE_S)
        return lines[0] if lines else ""

    def _refusal(self) -> int | None:
        """The exit status of a broker that will not be ready; None if it does not end by itself."""
        assert self.process is not None
        try:
            return self.process.wait(_REFUSAL_DEADLINE_S)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            self._reap()

    def stop(self) -> int:
        """SIGTERM; gives the exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the broker did not stop:\n{self.log_tail()}") from None
        finally:
            self._reap()

    def _reap(self) -> None:
        process, self.process = self.process, None
        process.wait()
        process.stdout.close()

    def partition_directory(self, topic: str, partition: int = 0) -> Path:
        """The files of a partition."""
        return self.data_directory / f"{topic}-{partition}"

    def log_tail(self, size_bytes: int = 5000) -> str:
        return self.log_path.read_text()[-size_bytes:] if self.log_path.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_) -> None:
        if self.process is not None:
            self.kill()
