"""What a broker process uses, and what it logs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.findings import Finding, log_flaws

if TYPE_CHECKING:
    from tests.broker_process import BrokerProcess

__all__ = ["Watch"]


class Watch:
    """Looks at one process again and again.

    Attributes:
        start_rss_bytes: Its memory when the watch began.
        peak_rss_bytes: The most that was seen.
    """

    def __init__(self, broker: BrokerProcess, max_rss_bytes: int) -> None:
        self._broker = broker
        self._max_rss_bytes = max_rss_bytes
        self._log_position = 0
        self.start_rss_bytes = self.peak_rss_bytes = self.rss_bytes()

    def rss_bytes(self) -> int:
        """Resident memory now."""
        pages = Path(f"/proc/{self._broker.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self, beginning: str = "") -> int:
        """Open descriptors whose target begins so."""
        count = 0
        for path in Path(f"/proc/{self._broker.process.pid}/fd").iterdir():
            try:
                count += str(path.readlink()).startswith(beginning)
            except OSError:
                continue
        return count

    def look(self) -> None:
        """Raises Finding when the process is gone, too big, or has logged what it should not."""
        if self._broker.process.poll() is not None:
            raise Finding(f"the broker ended:\n{self._broker.log_tail()}")
        rss_bytes = self.rss_bytes()
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss_bytes)
        if rss_bytes > self._max_rss_bytes:
            raise Finding(f"{rss_bytes >> 20} MB of memory")
        with self._broker.log_path.open() as log:
            log.seek(self._log_position)
            new = log.read()
            self._log_position = log.tell()
        flaw = log_flaws(new)
        if flaw is not None:
            raise Finding(f"the log says:\n{flaw}")
