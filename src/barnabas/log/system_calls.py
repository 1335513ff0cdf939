"""What a descriptor is asked for, on each system as well as it can.

    pread(descriptor, count, position)           bytes; fewer at the end of the file
    pread_into(descriptor, view, position)       how many bytes of `view` were filled
    pwrite(descriptor, data, position)           how many bytes were written
    sync_descriptor(descriptor)                  waits until the file's content is on the disk
    send_file(socket, descriptor, position, n)   how many bytes the socket took
    lock_descriptor(descriptor)                  against others; BlockingIOError if somebody has the lock
    fallocate(), syncfs()                        a function, or None where the system has none

All raise OSError. Linux has what the others lack (`sendfile` to sockets, reads that refuse to wait for the disk,
`fdatasync`); each is replaced by something plainer where it is missing.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "KEEP_SIZE",
    "NO_WAIT",
    "OPEN_FLAGS",
    "READ_CHUNK_BYTES",
    "READ_FLAGS",
    "fallocate",
    "lock_descriptor",
    "pread",
    "pread_into",
    "pwrite",
    "send_file",
    "sync_descriptor",
    "syncfs",
]

OPEN_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0)
READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)
NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)
"""The flag of `preadv` for a read that refuses to wait for the disk; 0 where there is none."""
KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE, of `fallocate`."""
READ_CHUNK_BYTES = 1 << 18
"""Read at a time, where reading is all that is wanted."""

_FULL_SYNC = 51  # F_FULLFSYNC of macOS: fsync there leaves the data in the drive's cache
_CANNOT_SEND = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def _seek_and_read(descriptor: int, count: int, position: int) -> bytes:  # pragma: no cover - for Windows
    os.lseek(descriptor, position, os.SEEK_SET)
    return os.read(descriptor, count)


def _seek_and_write(  # pragma: no cover - for Windows
    descriptor: int, data: bytes | bytearray | memoryview, position: int
) -> int:
    os.lseek(descriptor, position, os.SEEK_SET)
    return os.write(descriptor, data)


pread = getattr(os, "pread", _seek_and_read)
pwrite = getattr(os, "pwrite", _seek_and_write)


def _copy_into(descriptor: int, view: memoryview, position: int) -> int:
    data: bytes = pread(descriptor, len(view), position)
    view[: len(data)] = data
    return len(data)


def _read_into(descriptor: int, view: memoryview, position: int) -> int:
    return os.preadv(descriptor, [view], position)


# Windows and macOS before 11 have no preadv.
pread_into = _read_into if hasattr(os, "preadv") else _copy_into


def sync_descriptor(descriptor: int) -> None:
    """See the module."""
    if sys.platform == "darwin":  # pragma: no cover
        import fcntl

        fcntl.fcntl(descriptor, _FULL_SYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:  # pragma: no cover
        os.fsync(descriptor)


def _send_with_the_kernel(socket_fd: int, descriptor: int, position: int, count: int) -> int:
    try:
        return os.sendfile(socket_fd, descriptor, position, count)
    except OSError as error:
        if error.errno not in _CANNOT_SEND:
            raise
    return os.write(socket_fd, pread(descriptor, min(count, READ_CHUNK_BYTES), position))


def _send_copied(  # pragma: no cover - for Windows, where a socket is no descriptor to write to
    socket_fd: int, descriptor: int, position: int, count: int
) -> int:
    import socket

    data = pread(descriptor, min(count, READ_CHUNK_BYTES), position)
    connection = socket.socket(fileno=socket_fd)
    try:
        return connection.send(data)
    finally:
        connection.detach()


send_file = _send_with_the_kernel if hasattr(os, "sendfile") else _send_copied


def lock_descriptor(descriptor: int) -> None:
    """See the module; against other descriptors of this process too."""
    if sys.platform == "win32":  # pragma: no cover
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, "the file is locked") from error
    else:
        import fcntl

        # flock is per descriptor, so it also holds within one process; Apache Kafka sees only the record lock.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError as error:
            raise BlockingIOError(error.errno, "the file is locked") from error


@cache
def fallocate() -> Callable[[int, int, int, int], int] | None:
    """Linux's call (descriptor, mode, offset, length), which Python does not have; None elsewhere."""
    if sys.platform != "linux":
        return None
    import ctypes

    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):  # another C library
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    found: Callable[[int, int, int, int], int] = function
    return found


@cache
def syncfs() -> Callable[[int], None] | None:
    """Linux's call for a whole file system, which Python does not have; None before Linux 5.8, where it hides failures."""
    if sys.platform != "linux" or _linux_version() < (5, 8):
        return None
    try:
        import ctypes

        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (ImportError, OSError, AttributeError):
        return None

    def sync(descriptor: int) -> None:
        if function(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return sync


def _linux_version() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
