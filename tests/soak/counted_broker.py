"""A broker whose memory, descriptors, objects and containers are counted while it runs."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.broker_process import BrokerProcess, wait_until
from tests.soak.judge import Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CountedBroker"]


class CountedBroker(BrokerProcess):
    """See the module, and `census`."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self._census = directory / "census.json"
        command = (sys.executable, "-m", "tests.soak.census", str(self._census))
        super().__init__(directory, settings=settings, command=command)

    def sample(self, at_s: float) -> Sample:
        """What it uses and holds now."""
        assert self.process is not None
        self._census.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR2)
        wait_until(self._census.exists, 60, "a census")
        process = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return Sample(
            at_s=at_s,
            rss_bytes=int(status["VmRSS"].split()[0]) * 1024,
            descriptors=len(list((process / "fd").iterdir())),
            threads=int(status["Threads"]),
            counts=json.loads(self._census.read_text()),
        )
