"""The event loop: uvloop where there is one, otherwise asyncio's with a selector. The only module that imports uvloop."""

from __future__ import annotations

import asyncio

__all__ = ["HAS_UVLOOP", "new_event_loop"]

try:
    import uvloop
except ImportError:  # Windows, PyPy, or not installed
    HAS_UVLOOP = False
else:
    HAS_UVLOOP = True


def new_event_loop(*, with_uvloop: bool = HAS_UVLOOP) -> asyncio.AbstractEventLoop:
    """A loop that can watch raw sockets (`add_reader`), which the default one of Windows cannot."""
    if with_uvloop:
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.SelectorEventLoop()
