"""How a broker that runs as a process is ended, whichever broker it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

__all__ = ["EndingProcess"]

_STOP_DEADLINE_S = 60


class EndingProcess:
    """Has a process while it runs, which can be ended in order or at once."""

    process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """SIGTERM, upon which a broker hands over what it leads; waits for the end, and does not leave it running if that does not come."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_DEADLINE_S)
            finally:
                self.kill()

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
