"""Files: the only door to the disk. What opens, reads, writes, syncs, renames and deletes goes through a `Files`.

Everything else in this room is handed a `Files`, so that a simulated disk can take its place.

Two kinds of calls:

    by handle   `File` objects whose descriptors are opened on first use and kept within a limit (least recently used
                ones are closed first). They belong to the event loop's thread: only it opens and closes them. A worker
                thread uses one only while it is pinned.
    by path     a descriptor of its own for each call; any thread (`files_by_path`).

Calls by handle raise StorageError, which names the file; calls by path raise plain OSError (FileNotFoundError and so on).
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from barnabas.log.disk_errors import failure, write_failure
from barnabas.log.file_slice import ColdRead, File, FileSlice
from barnabas.log.files_by_path import Entry, FileLock, FilesByPath
from barnabas.log.system_calls import (
    KEEP_SIZE,
    NO_WAIT,
    OPEN_FLAGS,
    READ_CHUNK_BYTES,
    fallocate,
    pread,
    pread_into,
    pwrite,
    sync_descriptor,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ColdRead", "Entry", "File", "FileLock", "FileSlice", "Files"]

PRIVATE_OPEN = 16
LOOKED_AT_MAX = 128
"""At so many handles is looked for one to close: with thousands of them pinned, each that is opened would go through all."""
PROBE_STRIDE_BYTES = 1 << 17
"""How far apart the pages lie that `is_cached` looks at: Linux reads ahead so much by default."""


class Files(FilesByPath):
    """The file system; see the module.

    Args:
        max_open: how many descriptors handles keep open; more only while that many are pinned, and some more for a moment where
            many were used just now.
    """

    def __init__(self, max_open: int = 1000) -> None:
        self.max_open = max_open
        self._open: dict[File, None] = {}
        self._probe = bytearray(1)

    @property
    def open_count(self) -> int:
        """How many descriptors handles keep open."""
        return len(self._open)

    def handle(self, path: Path | str) -> File:
        """A handle of a file that is opened when it is first used; no I/O."""
        return File(path)

    def private(self) -> Files:
        """The same file system with handles of its own, for one job in another thread; `close` it afterwards."""
        return Files(max_open=PRIVATE_OPEN)

    def create(self, path: Path) -> File:
        """A handle of an empty file that is created, or emptied, now."""
        file = File(path)
        try:
            self._adopt(file, self._open_descriptor(path, OPEN_FLAGS | os.O_CREAT | os.O_TRUNC))
        except OSError as error:
            raise write_failure("create", path, error) from error
        return file

    def open_handle(self, file: File) -> int:
        """Opens a handle's file if need be; returns the descriptor, which the next call by handle may close."""
        if file.descriptor >= 0:
            return file.descriptor
        try:
            # Never O_CREAT: a file that somebody removed must not come back empty.
            descriptor = self._open_descriptor(file.location, OPEN_FLAGS)
        except OSError as error:
            raise failure("open", file.path, error) from error
        self._adopt(file, descriptor)
        return descriptor

    def _open_descriptor(self, path: Path | str, flags: int) -> int:
        while True:
            try:
                return os.open(path, flags, 0o644)
            except OSError as error:
                # Sockets use descriptors up, too: give some of ours back rather than call the disk broken.
                if error.errno not in {errno.EMFILE, errno.ENFILE} or not self._close_least_recently_used(
                    2 * len(self._open)
                ):
                    raise

    def _adopt(self, file: File, descriptor: int) -> None:
        file.descriptor = descriptor
        file.was_used = True
        handles = self._open
        while len(handles) >= self.max_open and self._close_least_recently_used():
            pass
        handles[file] = None

    def _close_least_recently_used(self, look_at: int = LOOKED_AT_MAX) -> bool:
        # Second chance: whoever was used since the hand last passed is spared once. Cheaper than to reorder at each use.
        handles = self._open
        for _ in range(min(look_at, 2 * len(handles))):
            file = next(iter(handles))
            del handles[file]
            if file.pins == 0 and not file.was_used:
                self._close_descriptor(file)
                return True
            file.was_used = False
            handles[file] = None
        return False

    @staticmethod
    def _close_descriptor(file: File) -> None:
        descriptor = file.descriptor
        file.descriptor = -1
        os.close(descriptor)

    def write_at(
        self, file: File, position: int, data: bytes | bytearray | memoryview, size: int | None = None
    ) -> None:
        """Writes all of `data` at `position`, or nothing: what a full disk left half-written is cut off again.

        Args:
            file: the handle; `position` is its end, since a failed write cuts the file there.
            position: where to write.
            data: bytes; a memoryview must be one of bytes.
            size: `len(data)`, where the caller knows it.
        """
        descriptor = file.descriptor
        if descriptor < 0:
            descriptor = self.open_handle(file)
        file.was_used = True
        try:
            written = pwrite(descriptor, data, position)
        except OSError as error:
            raise write_failure("write to", file.path, error) from error
        if written != (len(data) if size is None else size):
            self._write_rest(file, descriptor, position, memoryview(data), written)

    def _write_rest(self, file: File, descriptor: int, position: int, data: memoryview, written: int) -> None:
        try:
            while written < len(data):
                count = pwrite(descriptor, data[written:], position + written)
                if count == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += count
        except OSError as error:
            try:
                os.ftruncate(descriptor, position)
            except OSError:  # what is half-written stays: this file is not to be appended to
                raise failure("write to", file.path, error) from error
            raise write_failure("write to", file.path, error) from error

    def read_at(self, file: File, position: int, count: int, *, wait: bool = True) -> bytes:
        """Up to `count` bytes from `position`; fewer only at the end of the file.

        Raises:
            ColdRead: `wait` is False and not all of it is in the page cache.
        """
        descriptor = file.descriptor
        if descriptor < 0:
            descriptor = self.open_handle(file)
        file.was_used = True
        try:
            if not wait and NO_WAIT:
                data = self._read_cached(file, descriptor, position, count)
                if data is not None:
                    return data
            data = pread(descriptor, count, position)
            if len(data) == count or not data:
                return data
            # Signals and limits of the kernel (2 GiB) cut a read short without the file ending there.
            chunks = [data]
            position += len(data)
            count -= len(data)
            while count > 0 and (data := pread(descriptor, count, position)):
                chunks.append(data)
                position += len(data)
                count -= len(data)
            return b"".join(chunks)
        except OSError as error:
            raise failure("read", file.path, error) from error

    def _read_cached(self, file: File, descriptor: int, position: int, count: int) -> bytes | None:
        buffer = bytearray(count)
        try:
            got = os.preadv(descriptor, [buffer], position, NO_WAIT)
        except BlockingIOError:
            raise ColdRead(FileSlice(self, file, position, count)) from None
        except OSError as error:
            if error.errno in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                return None  # this file system cannot tell
            raise
        if got < count and position + got < os.fstat(descriptor).st_size:
            raise ColdRead(FileSlice(self, file, position + got, count - got))
        del buffer[got:]
        return bytes(buffer)

    def read_into(self, file: File, position: int, view: memoryview) -> int:
        """Fills `view` from `position`; returns how many bytes there were, fewer only at the end of the file."""
        descriptor = self.open_handle(file)
        filled = 0
        try:
            while filled < len(view) and (
                count := pread_into(descriptor, view[filled:] if filled else view, position + filled)
            ):
                filled += count
        except OSError as error:
            raise failure("read", file.path, error) from error
        return filled

    def truncate(self, file: File, size: int) -> None:
        """Cuts the file to `size` bytes."""
        descriptor = self.open_handle(file)
        try:
            os.ftruncate(descriptor, size)
        except OSError as error:
            raise failure("truncate", file.path, error) from error

    def reserve(self, file: File, size: int) -> None:
        """Gives a file room on the disk for `size` bytes, without making it longer; nothing where that cannot be done.

        What is not used is given back when the file is truncated, also to the size that it has.
        """
        allocate = fallocate()
        if allocate is not None:
            allocate(self.open_handle(file), KEEP_SIZE, 0, size)

    def sync(self, file: File) -> None:
        """Waits until everything written is on the disk; a worker thread may call it for a pinned, open handle."""
        descriptor = file.descriptor
        if descriptor < 0:
            descriptor = self.open_handle(file)
        try:
            sync_descriptor(descriptor)
        except OSError as error:
            raise failure("sync", file.path, error) from error

    @property
    def may_be_synced_by_others(self) -> bool:
        """Whether syncing a file's descriptor is all that `sync` does; not so where a disk is simulated."""
        return type(self).sync is Files.sync

    def pin(self, file: File) -> None:
        """Keeps the file open until `unpin`, opening it now, so that a worker thread may use it."""
        self.open_handle(file)
        file.pins += 1

    def unpin(self, file: File) -> None:
        """Ends a pin."""
        file.pins -= 1
        if file.pins == 0:
            if file.is_detached:
                if file.descriptor >= 0:
                    self._close_descriptor(file)
            elif len(self._open) > self.max_open:
                self._close_least_recently_used()

    def detach(self, file: File) -> None:
        """The path is about to be renamed, deleted or closed for good: close the file, or keep it for its pins only."""
        if file.pins and file.descriptor < 0 and not file.is_detached:
            self.open_handle(file)
        file.is_detached = True
        self._open.pop(file, None)
        if file.pins == 0 and file.descriptor >= 0:
            self._close_descriptor(file)

    def region(self, file: File, position: int, size: int, *, is_warm: bool = False) -> FileSlice:
        """The bytes from `position` on; `is_warm` says that they were just written, so that nobody need look."""
        return FileSlice(self, file, position, size, is_warm=is_warm)

    def is_cached(self, file: File, position: int, size: int) -> bool:
        """Whether a run of bytes is, as far as samples tell, in the page cache; True where nobody can tell."""
        if not NO_WAIT or size <= 0:
            return True
        descriptor = file.descriptor
        if descriptor < 0:
            descriptor = self.open_handle(file)
        buffers = [self._probe]
        last = position + size - 1
        try:
            for probed in range(position, last, PROBE_STRIDE_BYTES):
                os.preadv(descriptor, buffers, probed, NO_WAIT)
            os.preadv(descriptor, buffers, last, NO_WAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def warm(self, file: File, position: int, size: int) -> None:
        """Reads a run of bytes and drops it; for a worker thread, the file being pinned."""
        if file.descriptor < 0:
            with self.opened(file.path) as private:
                self.warm(private, position, size)
            return
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.descriptor, position, size, os.POSIX_FADV_WILLNEED)
        scratch = memoryview(bytearray(min(size, READ_CHUNK_BYTES)))
        end = position + size
        try:
            while position < end:
                count = pread_into(file.descriptor, scratch[: end - position], position)
                if count == 0:
                    break
                position += count
        except OSError as error:
            raise failure("read", file.path, error) from error

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[File]:
        """A handle with a descriptor of its own outside of the limit, for one thread and one job."""
        file = File(path)
        try:
            file.descriptor = os.open(path, OPEN_FLAGS)
        except OSError as error:
            raise failure("open", path, error) from error
        try:
            yield file
        finally:
            self._close_descriptor(file)

    def close(self) -> None:
        """Closes every handle that nobody pins."""
        for file in list(self._open):
            if file.pins == 0:
                del self._open[file]
                self._close_descriptor(file)
