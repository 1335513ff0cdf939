"""What the system says of a file, as the errors that the log knows: failed, or only full."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from barnabas.errors import DiskFullError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["failure", "naming", "telling_full", "write_failure"]

_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""No room: on the disk, in the user's quota, or under the limit for files of this process."""


def failure(action: str, path: Path, error: OSError) -> StorageError:
    """The error of a log whose file could not be opened, read, synced …, with the system's number; to be raised."""
    failed = StorageError(f"cannot {action} {path}: {error.strerror or error}")
    failed.errno = error.errno
    return failed


def write_failure(action: str, path: Path, error: OSError) -> StorageError:
    """As `failure`, for what can be tried again when there is room. Never for a sync: what that failed to write is lost."""
    if error.errno not in _FULL:
        return failure(action, path, error)
    full = DiskFullError(f"cannot {action} {path}: {error.strerror or error}")
    full.errno = error.errno
    return full


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of calls on a descriptor do not say which file it is; with this they do."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def telling_full(action: str, path: Path) -> Iterator[None]:
    """For calls by path, which raise plain OSError: DiskFullError where that is the reason."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise write_failure(action, path, error) from error
        raise
