"""`barnabas` as it finds itself on another machine: `python other_machine.py KIND COMMAND...`.

Takes away what is missing there, then runs the command line. The kinds:

    bare      no uvloop, crc32c or cramjam: nothing but Python itself
    macos     bare, and without the system calls that only Linux has
    windows   bare, and without what Windows lacks; `sys.platform` says win32 to whatever is imported from now on
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import types

ACCELERATORS = ("uvloop", "crc32c", "cramjam")
NOT_ON_MACOS = (
    *("RWF_NOWAIT", "RWF_DSYNC", "posix_fadvise", "POSIX_FADV_WILLNEED", "POSIX_FADV_DONTNEED"),
    *("posix_fallocate", "fdatasync", "splice", "memfd_create", "O_DIRECT", "O_TMPFILE"),
    *("preadv", "pwritev"),  # before macOS 11
)
NOT_ON_WINDOWS = (
    *NOT_ON_MACOS,
    *(
        "pread",
        "pwrite",
        "readv",
        "writev",
        "sendfile",
        "sync",
        "sysconf",
        "fork",
        "getuid",
        "geteuid",
    ),
    *("sched_getaffinity", "statvfs", "mkfifo", "uname", "O_NONBLOCK", "O_SYNC", "O_CLOEXEC", "O_DIRECTORY"),
)
NO_MODULES_ON_WINDOWS = ("fcntl", "resource", "pwd", "grp", "termios", "syslog")


def _take_away(module: object, names: tuple[str, ...]) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


def _become_windows() -> None:
    import fcntl

    def locking(descriptor: int, mode: int, _count: int) -> None:
        assert mode == msvcrt.LK_NBLCK
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    msvcrt = types.ModuleType("msvcrt")
    msvcrt.LK_NBLCK = 2
    msvcrt.locking = locking
    # What the loops and pools of the standard library need of this machine they import before it changes.
    import ctypes  # noqa: F401
    import logging.handlers  # noqa: F401
    import multiprocessing.util  # noqa: F401
    import pathlib  # noqa: F401
    import socketserver  # noqa: F401
    import subprocess  # noqa: F401
    import threading  # noqa: F401

    def no_signal_handler(*_: object) -> None:
        raise NotImplementedError

    asyncio.SelectorEventLoop.add_signal_handler = no_signal_handler
    for name in NO_MODULES_ON_WINDOWS:
        sys.modules[name] = None
    sys.modules["msvcrt"] = msvcrt
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGQUIT", "SIGALRM", "SIGCHLD"):
        _take_away(signal, (name,))
    _take_away(socket, ("MSG_MORE", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SO_REUSEPORT"))
    sys.platform = "win32"
    # Sockets there have no `recvmsg_into`; a class written in C cannot lose a method, so our switch is turned by hand.
    from barnabas.network import transport

    transport.HAS_SCATTER = False


def become(kind: str) -> None:
    """Takes away what a machine of this kind lacks, for whatever is imported from now on."""
    for name in ACCELERATORS:
        sys.modules[name] = None
    if kind == "windows":
        _take_away(os, NOT_ON_WINDOWS)
        _become_windows()
    elif kind == "macos":
        _take_away(os, NOT_ON_MACOS)
        _take_away(socket, ("MSG_MORE",))
    elif kind != "bare":
        raise SystemExit(f"there is no kind of machine {kind!r}")


def main() -> int:
    become(sys.argv[1])
    from barnabas.cli import main as command_line

    return command_line(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
