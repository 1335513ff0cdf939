"""What a broker asks of the process it runs in."""

from __future__ import annotations

import gc
import os
import time

__all__ = ["age_ms", "raise_open_files_limit", "tune_garbage_collector"]

_imported_at = time.monotonic()


def age_ms() -> int:
    """Milliseconds since the process began, or where that is not known, since this module was imported."""
    try:
        with open("/proc/self/stat", "rb") as stream:  # noqa: PTH123 - pathlib is a slow import
            # proc(5): field 22 is the start in clock ticks since boot; the command's name, field 2, may hold anything.
            ticks = int(stream.read().rpartition(b")")[2].split()[19])
        started = ticks / os.sysconf("SC_CLK_TCK")
        return max(0, round((time.clock_gettime(time.CLOCK_BOOTTIME) - started) * 1000))
    except (OSError, ValueError, IndexError, AttributeError):
        return round((time.monotonic() - _imported_at) * 1000)


def raise_open_files_limit() -> int | None:
    """Raises the soft limit of open files to the hard one, and returns it; `None` where there are no such limits.

    Processes begin with 1,024, which a few hundred connections and segments use up.
    """
    try:
        import resource
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says "unlimited" and means 10,240 (OPEN_MAX); a million is enough for anyone else.
    for wanted in (hard, 1_048_576, 10_240):
        if wanted == resource.RLIM_INFINITY or wanted <= soft:
            continue
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        return wanted
    return None if soft == resource.RLIM_INFINITY else soft


def tune_garbage_collector() -> None:
    """Lets the garbage collector look less often.

    Requests make no cycles, so its collections find next to nothing; at the default threshold they still cost a few
    per cent, and some milliseconds of the start.
    """
    gc.set_threshold(50_000, 20, 100)
