"""Syncs that the kernel does on its own, without a thread of ours (Linux AIO, `IOCB_CMD_FDSYNC`, since Linux 4.18).

A worker thread that syncs has to take turns with the event loop: it needs the interpreter's lock to begin and to say that it
is done, and as long as it waits for that lock, each receive and send of the loop wakes it in vain. With 32 producers that
wait for the disk this costs more than the sync. Here the loop hands a descriptor to the kernel, and an eventfd says when it is done.

    struct iocb (64 bytes, native order)
        data u64 | key u32 | rw_flags u32 | opcode u16 | priority i16 | descriptor u32 | buffer u64 | bytes u64
        | offset i64 | reserved u64 | flags u32 (1: signal an eventfd) | eventfd u32
    struct io_event (32 bytes)
        data u64 | iocb u64 | result i64 (0 or a negative errno) | result2 i64

Source: io_submit(2), io_getevents(2); linux/aio_abi.h.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import ctypes
    from collections.abc import Callable

__all__ = ["UNDER_WAY_MAX", "KernelSync"]

logger = logging.getLogger(__name__)

UNDER_WAY_MAX = 64
"""Syncs that the kernel may have at a time; whatever is more takes the worker threads."""

# io_setup, io_destroy, io_getevents, io_submit
_SYSTEM_CALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
_IOCB = struct.Struct("=QIIHhIQQqQII")
_EVENT = struct.Struct("=QQqq")
_FDSYNC = 3
_SIGNALS_EVENTFD = 1


class KernelSync:
    """Hands descriptors to the kernel to be synced. All calls come from the loop's thread.

    Attributes:
        under_way: How many syncs the kernel has now.
    """

    __slots__ = (
        "_context",
        "_destroy",
        "_eventfd",
        "_events",
        "_get_errno",
        "_get_events",
        "_iocb",
        "_iocbs",
        "_loop",
        "_next",
        "_on_synced",
        "_submit",
        "_syscall",
        "under_way",
    )

    @classmethod
    def open(cls, loop: asyncio.AbstractEventLoop) -> KernelSync | None:
        """None where the kernel does not offer it, or a sandbox forbids it."""
        calls = _SYSTEM_CALLS.get(platform.machine())
        if calls is None or sys.platform != "linux" or sys.maxsize < 1 << 32:
            return None
        try:
            return cls(loop, *calls)
        except (OSError, ImportError, AttributeError) as error:
            logger.debug("Worker threads sync, since the kernel does not do it on its own: %s", error)
            return None

    def __init__(
        self, loop: asyncio.AbstractEventLoop, setup: int, destroy: int, get_events: int, submit: int
    ) -> None:
        """Raises OSError where it cannot be had."""
        # Imported here: most processes that import this module never sync.
        import ctypes

        self.under_way = 0
        self._loop = loop
        self._get_errno = ctypes.get_errno
        self._syscall: Callable[..., int] = ctypes.CDLL(None, use_errno=True).syscall
        self._context = ctypes.c_ulong(0)
        self._destroy, self._get_events, self._submit = destroy, get_events, submit
        self._iocb = ctypes.create_string_buffer(_IOCB.size)
        self._iocbs = (ctypes.c_void_p * 1)(ctypes.addressof(self._iocb))
        self._events = ctypes.create_string_buffer(_EVENT.size * UNDER_WAY_MAX)
        self._on_synced: dict[int, Callable[[OSError | None], None]] = {}
        self._next = 0
        self._call(setup, UNDER_WAY_MAX, ctypes.byref(self._context))
        try:
            self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            self._call(destroy, self._context)
            raise
        loop.add_reader(self._eventfd, self._on_readable)

    def sync(self, descriptor: int, on_synced: Callable[[OSError | None], None]) -> bool:
        """Has everything written to `descriptor` so far brought to the disk (its data, as fdatasync).

        Args:
            descriptor: An open file; it must stay open until then.
            on_synced: Is called in a later turn of the loop, with None or the error.

        Returns:
            False if the kernel does not take it now; then somebody else must do it.
        """
        if self.under_way >= UNDER_WAY_MAX:
            return False
        self._next += 1
        _IOCB.pack_into(
            self._iocb,
            0,
            self._next,
            0,
            0,
            _FDSYNC,
            0,
            descriptor,
            0,
            0,
            0,
            0,
            _SIGNALS_EVENTFD,
            self._eventfd,
        )
        try:
            self._call(self._submit, self._context, 1, self._iocbs)
        except OSError as error:
            logger.debug("The kernel does not take a sync: %s", error)
            return False
        self.under_way += 1
        self._on_synced[self._next] = on_synced
        return True

    def close(self) -> None:
        """Waits for the syncs under way, and ends it."""
        self._loop.remove_reader(self._eventfd)
        while self.under_way:
            self._collect(self.under_way)
        self._call(self._destroy, self._context)
        os.close(self._eventfd)

    def _on_readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)
        self._collect(0)

    def _collect(self, at_least: int) -> None:
        try:
            count = self._call(self._get_events, self._context, at_least, UNDER_WAY_MAX, self._events, None)
        except InterruptedError:
            return
        found = [_EVENT.unpack_from(self._events, index * _EVENT.size) for index in range(count)]
        self.under_way -= count
        for number, _, result, _ in found:
            on_synced = self._on_synced.pop(number)
            on_synced(OSError(-result, os.strerror(-result)) if result < 0 else None)

    def _call(self, *arguments: int | ctypes.Array[ctypes.c_char] | object) -> int:
        result = self._syscall(*arguments)
        if result < 0:
            code = self._get_errno()
            raise OSError(code, os.strerror(code))
        return result
