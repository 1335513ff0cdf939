"""Files: the only module that opens, reads, writes, syncs, renames and deletes.

Everything else in this room is handed a `Files`, so that a simulated disk can take its place.

Two kinds of calls:

    by handle   `File` objects whose descriptors are opened on first use and kept within a limit (least recently used
                ones are closed first). They belong to the event loop's thread: only it opens and closes them. A worker
                thread uses one only while it is pinned.
    by path     a descriptor of its own for each call; any thread.

Calls by handle raise StorageError, which names the file; calls by path raise plain OSError (FileNotFoundError and so on).

Linux has what the others lack (`sendfile` to sockets, reads that refuse to wait for the disk, `fdatasync`); each is
replaced by something plainer where it is missing.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DiskFullError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ColdRead", "Entry", "File", "FileLock", "FileSlice", "Files"]

PRIVATE_OPEN = 16
LOOKED_AT_MAX = 128
"""At so many handles is looked for one to close: with thousands of them pinned, each that is opened would go through all."""
READ_CHUNK_BYTES = 1 << 18
PROBE_STRIDE_BYTES = 1 << 17
"""How far apart the pages lie that `is_cached` looks at: Linux reads ahead so much by default."""

_OPEN_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0)
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_NO_WAIT = getattr(os, "RWF_NOWAIT", 0)
_FULL_SYNC = 51  # F_FULLFSYNC of macOS: fsync there leaves the data in the drive's cache

if sys.platform == "win32":  # pragma: no cover

    def _pread(descriptor: int, count: int, position: int) -> bytes:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.read(descriptor, count)

    def _pwrite(descriptor: int, data: bytes | bytearray | memoryview, position: int) -> int:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.write(descriptor, data)

else:
    _pread = os.pread
    _pwrite = os.pwrite


def _copy_into(descriptor: int, view: memoryview, position: int) -> int:
    data = _pread(descriptor, len(view), position)
    view[: len(data)] = data
    return len(data)


def _read_into(descriptor: int, view: memoryview, position: int) -> int:
    return os.preadv(descriptor, [view], position)


# Windows and macOS before 11 have no preadv.
_pread_into = _read_into if hasattr(os, "preadv") else _copy_into


def _sync_descriptor(descriptor: int) -> None:
    if sys.platform == "darwin":  # pragma: no cover
        import fcntl

        fcntl.fcntl(descriptor, _FULL_SYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:  # pragma: no cover
        os.fsync(descriptor)


_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""No room: on the disk, in the user's quota, or under the limit for files of this process."""


def _failure(action: str, path: Path, error: OSError) -> StorageError:
    failure = StorageError(f"cannot {action} {path}: {error.strerror or error}")
    failure.errno = error.errno
    return failure


def _write_failure(action: str, path: Path, error: OSError) -> StorageError:
    """As `_failure`, for what can be tried again when there is room. Never for a sync: what that failed to write is lost."""
    if error.errno not in _FULL:
        return _failure(action, path, error)
    failure = DiskFullError(f"cannot {action} {path}: {error.strerror or error}")
    failure.errno = error.errno
    return failure


_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE


@functools.cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """Linux's call, which Python does not have; None elsewhere."""
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


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of calls on a descriptor do not say which file it is; with this they do."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def _telling_full(action: str, path: Path) -> Iterator[None]:
    """For calls by path, which raise plain OSError: DiskFullError where that is the reason."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _write_failure(action, path, error) from error
        raise


@cache
def _syncfs() -> Callable[[int], None] | None:
    """syncfs(2) of Linux, which Python does not have; reports failures since Linux 5.8, before that it is no proof."""
    if sys.platform != "linux" or _linux_version() < (5, 8):
        return None
    try:
        import ctypes

        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (ImportError, OSError, AttributeError):
        return None

    def syncfs(descriptor: int) -> None:
        if function(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return syncfs


def _linux_version() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


class ColdRead(Exception):  # noqa: N818 - not an error: the answer is to warm and try again
    """A read that was not to wait found bytes that are not in the page cache.

    Call `warm` in a worker thread, then read again; if that finds something else missing, once more or with waiting.
    """

    def __init__(self, region: FileSlice) -> None:
        super().__init__(f"{region.size} bytes of {region.path} are not in the page cache")
        self._region = region

    def warm(self) -> None:
        """Reads what was missing, so that it is in the page cache; for a worker thread."""
        self._region.warm()


class Entry(NamedTuple):
    """What a directory listing says of a file."""

    name: str
    size: int
    modified_ms: int
    is_directory: bool


class File:
    """A handle: a path, and a descriptor while there is one.

    `pins` counts who needs the file as it is (regions on their way to a socket, workers that sync): a pinned
    descriptor stays open, and so does a deleted file until its last pin is gone.
    """

    __slots__ = ("descriptor", "is_detached", "location", "pins", "was_used")

    def __init__(self, location: Path | str) -> None:
        self.location = location
        self.descriptor = -1
        self.pins = 0
        self.was_used = False
        self.is_detached = False

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return Path(self.location)

    def __repr__(self) -> str:
        return f"<File {self.location} descriptor={self.descriptor} pins={self.pins}>"


class FileSlice:
    """A run of bytes in a file, on its way to a socket: a `wire.chunks.FileRegion`.

    It pins its file until `release`, which may be called again without harm.
    """

    __slots__ = ("_file", "_files", "_is_released", "_is_warm", "position", "size")

    def __init__(self, files: Files, file: File, position: int, size: int, *, is_warm: bool = False) -> None:
        file.pins += 1
        self._files = files
        self._file = file
        self._is_released = False
        self._is_warm = is_warm
        self.position = position
        self.size = size

    def __repr__(self) -> str:
        return f"<FileSlice {self.path} {self.position}+{self.size}>"

    @property
    def path(self) -> Path:
        """The file it is of."""
        return self._file.path

    def read(self) -> bytes:
        """All of it; StorageError if the file is shorter."""
        data = self._files.read_at(self._file, self.position, self.size)
        if len(data) != self.size:
            raise self._too_short(len(data))
        return data

    def send_to(self, socket_fd: int, offset: int, count: int) -> int:
        """Sends up to `count` bytes from `offset` within the slice; returns how many went.

        Raises:
            BlockingIOError: the socket's buffer is full.
            OSError: the connection failed.
            StorageError: the file failed or is shorter than it was.
        """
        file = self._file
        descriptor = file.descriptor
        if descriptor < 0:
            descriptor = self._files.open_handle(file)
        file.was_used = True
        try:
            sent = _send_file(socket_fd, descriptor, self.position + offset, count)
        except OSError as error:
            if error.errno == errno.EIO:
                raise _failure("read", file.path, error) from error
            raise
        if sent == 0 and count > 0:
            raise self._too_short(offset)
        return sent

    def release(self) -> None:
        """The file may be closed again."""
        if not self._is_released:
            self._is_released = True
            self._files.unpin(self._file)

    def is_cached(self, offset: int = 0, count: int | None = None) -> bool:
        """Whether sending `count` bytes from `offset` will probably not wait for the disk.

        Pages at both ends and every 128 KiB are looked at.
        """
        if self._is_warm:
            return True
        return self._files.is_cached(
            self._file, self.position + offset, self.size - offset if count is None else count
        )

    def warm(self, offset: int = 0, count: int | None = None) -> None:
        """Reads `count` bytes from `offset`, so that sending them does not wait for the disk; for a worker thread."""
        self._files.warm(self._file, self.position + offset, self.size - offset if count is None else count)

    def _too_short(self, there: int) -> StorageError:
        return StorageError(
            f"{self.path} ends {self.size - there} bytes before the end of a region at {self.position} "
            f"of {self.size} bytes that is being sent"
        )

    def __del__(self) -> None:
        # A connection that dies with answers in its queue drops them: their files must not stay pinned.
        self.release()


if hasattr(os, "sendfile"):
    _UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

    def _send_file(socket_fd: int, descriptor: int, position: int, count: int) -> int:
        try:
            return os.sendfile(socket_fd, descriptor, position, count)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        return os.write(socket_fd, _pread(descriptor, min(count, READ_CHUNK_BYTES), position))

else:  # pragma: no cover

    def _send_file(socket_fd: int, descriptor: int, position: int, count: int) -> int:
        import socket

        data = _pread(descriptor, min(count, READ_CHUNK_BYTES), position)
        connection = socket.socket(fileno=socket_fd)
        try:
            return connection.send(data)
        finally:
            connection.detach()


_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class FileLock:
    """A lock on a file, against other processes and against others in this one; `release` gives it back.

    Attributes:
        descriptor: of the file; -1 when it was given back.
    """

    __slots__ = ("descriptor",)

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, _OPEN_FLAGS | os.O_CREAT, 0o644)
        try:
            _lock_descriptor(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor

    def release(self) -> None:
        """Gives the lock back; again without harm."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


if sys.platform == "win32":  # pragma: no cover

    def _lock_descriptor(descriptor: int) -> None:
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, "the file is locked") from error

else:

    def _lock_descriptor(descriptor: int) -> None:
        import fcntl

        # flock is per descriptor, so it also holds within one process; Apache Kafka sees only the record lock.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError as error:
            raise BlockingIOError(error.errno, "the file is locked") from error


class Files:
    """The file system; see the module.

    Args:
        max_open: how many descriptors handles keep open; more only while that many are pinned, and some more for a moment where
            many were used just now.
    """

    def __init__(self, max_open: int = 1000) -> None:
        self.max_open = max_open
        self._open: dict[File, None] = {}
        self._probe = bytearray(1)

    # ----- by handle: the event loop's thread

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
            self._adopt(file, self._open_descriptor(path, _OPEN_FLAGS | os.O_CREAT | os.O_TRUNC))
        except OSError as error:
            raise _write_failure("create", path, error) from error
        return file

    def open_handle(self, file: File) -> int:
        """Opens a handle's file if need be; returns the descriptor, which the next call by handle may close."""
        if file.descriptor >= 0:
            return file.descriptor
        try:
            # Never O_CREAT: a file that somebody removed must not come back empty.
            descriptor = self._open_descriptor(file.location, _OPEN_FLAGS)
        except OSError as error:
            raise _failure("open", file.path, error) from error
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
            written = _pwrite(descriptor, data, position)
        except OSError as error:
            raise _write_failure("write to", file.path, error) from error
        if written != (len(data) if size is None else size):
            self._write_rest(file, descriptor, position, memoryview(data), written)

    def _write_rest(self, file: File, descriptor: int, position: int, data: memoryview, written: int) -> None:
        try:
            while written < len(data):
                count = _pwrite(descriptor, data[written:], position + written)
                if count == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += count
        except OSError as error:
            try:
                os.ftruncate(descriptor, position)
            except OSError:  # what is half-written stays: this file is not to be appended to
                raise _failure("write to", file.path, error) from error
            raise _write_failure("write to", file.path, error) from error

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
            if not wait and _NO_WAIT:
                data = self._read_cached(file, descriptor, position, count)
                if data is not None:
                    return data
            data = _pread(descriptor, count, position)
            if len(data) == count or not data:
                return data
            # Signals and limits of the kernel (2 GiB) cut a read short without the file ending there.
            chunks = [data]
            position += len(data)
            count -= len(data)
            while count > 0 and (data := _pread(descriptor, count, position)):
                chunks.append(data)
                position += len(data)
                count -= len(data)
            return b"".join(chunks)
        except OSError as error:
            raise _failure("read", file.path, error) from error

    def _read_cached(self, file: File, descriptor: int, position: int, count: int) -> bytes | None:
        buffer = bytearray(count)
        try:
            got = os.preadv(descriptor, [buffer], position, _NO_WAIT)
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
                count := _pread_into(descriptor, view[filled:] if filled else view, position + filled)
            ):
                filled += count
        except OSError as error:
            raise _failure("read", file.path, error) from error
        return filled

    def truncate(self, file: File, size: int) -> None:
        """Cuts the file to `size` bytes."""
        descriptor = self.open_handle(file)
        try:
            os.ftruncate(descriptor, size)
        except OSError as error:
            raise _failure("truncate", file.path, error) from error

    def reserve(self, file: File, size: int) -> None:
        """Gives a file room on the disk for `size` bytes, without making it longer; nothing where that cannot be done.

        What is not used is given back when the file is truncated, also to the size that it has.
        """
        fallocate = _fallocate()
        if fallocate is not None:
            fallocate(self.open_handle(file), _KEEP_SIZE, 0, size)

    def sync(self, file: File) -> None:
        """Waits until everything written is on the disk; a worker thread may call it for a pinned, open handle."""
        descriptor = file.descriptor
        if descriptor < 0:
            descriptor = self.open_handle(file)
        try:
            _sync_descriptor(descriptor)
        except OSError as error:
            raise _failure("sync", file.path, error) from error

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
        if not _NO_WAIT or size <= 0:
            return True
        descriptor = file.descriptor
        if descriptor < 0:
            descriptor = self.open_handle(file)
        buffers = [self._probe]
        last = position + size - 1
        try:
            for probed in range(position, last, PROBE_STRIDE_BYTES):
                os.preadv(descriptor, buffers, probed, _NO_WAIT)
            os.preadv(descriptor, buffers, last, _NO_WAIT)
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
                count = _pread_into(file.descriptor, scratch[: end - position], position)
                if count == 0:
                    break
                position += count
        except OSError as error:
            raise _failure("read", file.path, error) from error

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[File]:
        """A handle with a descriptor of its own outside of the limit, for one thread and one job."""
        file = File(path)
        try:
            file.descriptor = os.open(path, _OPEN_FLAGS)
        except OSError as error:
            raise _failure("open", path, error) from error
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

    # ----- by path: any thread

    def exists(self, path: Path) -> bool:
        """Whether there is such a file or directory."""
        return os.path.lexists(path)

    def free_bytes(self, path: Path) -> int:
        """How much room there is on the disk of `path`; raises OSError where nobody can tell."""
        if hasattr(os, "statvfs"):
            status = os.statvfs(path)
            return status.f_bavail * status.f_frsize
        import shutil  # slow to import

        if not hasattr(shutil, "disk_usage"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return shutil.disk_usage(path).free

    def size(self, path: Path) -> int:
        """The file's size in bytes."""
        return path.stat().st_size

    def entries(self, directory: Path) -> list[Entry]:
        """What is in a directory, with sizes and times of change, sorted by name."""
        found = []
        with os.scandir(directory) as listing:
            for entry in listing:
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # deleted meanwhile
                is_directory = stat.S_ISDIR(status.st_mode)
                found.append(Entry(entry.name, status.st_size, status.st_mtime_ns // 1_000_000, is_directory))
        found.sort()
        return found

    def list_directory(self, path: Path) -> list[str]:
        """The names in a directory, sorted."""
        return sorted(os.listdir(path))  # noqa: PTH208 - a `Path` for each name would cost more than the call

    def make_directory(self, path: Path) -> None:
        """Creates a directory; FileExistsError if there is one, DiskFullError if there is no room."""
        with _telling_full("create", path):
            path.mkdir()

    def boot_id(self) -> str:
        """What names the time since the machine was started, while which nothing written is lost; empty where it has no such name."""
        try:
            return self.read_file(_BOOT_ID).decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def read_file(self, path: Path) -> bytes:
        """The whole file."""
        descriptor = os.open(path, _READ_FLAGS)
        try:
            with _naming(path):
                size = os.fstat(descriptor).st_size
                chunks = []
                while data := os.read(descriptor, max(size, 1) + 1):
                    chunks.append(data)
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            os.close(descriptor)

    def write_file(self, path: Path, data: bytes | bytearray | memoryview, *, sync: bool = False) -> None:
        """Writes a whole file, in place of what it held; if that fails, there is no file.

        Raises:
            DiskFullError: there is no room; it may be tried again.
        """
        with _telling_full("write", path):
            descriptor = os.open(path, _OPEN_FLAGS | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                with _naming(path):
                    view = memoryview(data)
                    while view:
                        view = view[os.write(descriptor, view) :]
                    if sync:
                        _sync_descriptor(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    path.unlink()
                raise
            finally:
                os.close(descriptor)

    def replace_file(self, path: Path, data: bytes | bytearray | memoryview, *, sync: bool = True) -> None:
        """Writes a whole file so that after a crash the old or the new content is there, never a mixture."""
        temporary = path.with_name(path.name + ".tmp")
        self.write_file(temporary, data, sync=sync)
        temporary.replace(path)
        if sync:
            self.sync_directory(path.parent)

    def set_modified(self, path: Path, modified_ms: int) -> None:
        """Makes `modified_ms` the time of a file's last change."""
        os.utime(path, ns=(modified_ms * 1_000_000, modified_ms * 1_000_000))

    def rename(self, source: Path, target: Path) -> None:
        """Renames a file or directory; a file takes the place of `target`. DiskFullError if the name has no room."""
        with _telling_full("rename", source):
            source.replace(target)

    def delete(self, path: Path) -> bool:
        """Deletes a file; False if there was none."""
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    def delete_tree(self, path: Path) -> None:
        """Deletes a directory with all that is in it; what is gone already is fine."""
        try:
            children = list(path.iterdir())
        except FileNotFoundError:
            return
        for child in children:
            if child.is_dir() and not child.is_symlink():
                self.delete_tree(child)
            else:
                self.delete(child)
        with contextlib.suppress(FileNotFoundError):
            path.rmdir()

    def sync_file(self, path: Path) -> None:
        """Waits until a file's content is on the disk."""
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            with _naming(path):
                _sync_descriptor(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Waits until a directory's entries (files created, renamed, deleted) are on the disk."""
        if sys.platform == "win32":  # pragma: no cover - directories cannot be opened there
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with _naming(path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @property
    def can_sync_file_system(self) -> bool:
        """Whether `sync_file_system` works here."""
        return _syncfs() is not None

    def sync_file_system(self, path: Path, since: FileLock | None = None) -> None:
        """Waits until all that was written to the file system of a directory is on the disk, by whomever.

        Args:
            path: the directory.
            since: a lock on a file of that file system. A write that failed since it was taken is an error here; without it, one that
                somebody else's sync was told of may not be.
        """
        syncfs = _syncfs()
        assert syncfs is not None
        if since is not None:
            with _naming(path):
                syncfs(since.descriptor)
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with _naming(path):
                syncfs(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: Path) -> FileLock:
        """Locks a file, created if need be; BlockingIOError if somebody else holds it."""
        return FileLock(path)
