"""Memory that costs the same in every turn.

On a virtual machine the host supplies memory only when it is first written to, and takes back what the guest has left free for a while: what
a broker writes into such memory costs it several times the processor time. Who comes upon it depends on what ran before. So a turn that
fills the page cache begins with memory that was written to a moment ago.
"""

from __future__ import annotations

import mmap
from pathlib import Path

__all__ = ["touch"]

_PIECE = bytes(1 << 20)


def touch(size_bytes: int) -> None:
    """Writes to so much memory, or half of what is available if that is less, and gives it back."""
    size_bytes = min(size_bytes, _available_bytes() // 2)
    if size_bytes <= 0:
        return
    with mmap.mmap(-1, size_bytes) as memory:
        for at in range(0, size_bytes - len(_PIECE) + 1, len(_PIECE)):
            memory[at : at + len(_PIECE)] = _PIECE


def _available_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0  # not Linux
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")), 0)
