"""The half of `files.Files` that takes paths: each call opens a descriptor of its own, in any thread, and raises OSError."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from barnabas.log.disk_errors import naming, telling_full
from barnabas.log.system_calls import OPEN_FLAGS, READ_FLAGS, lock_descriptor, sync_descriptor, syncfs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Entry", "FileLock", "FilesByPath"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Entry(NamedTuple):
    """What a directory listing says of a file."""

    name: str
    size: int
    modified_ms: int
    is_directory: bool


class FileLock:
    """A lock on a file, against other processes and against others in this one; `release` gives it back.

    Attributes:
        descriptor: of the file; -1 when it was given back.
    """

    __slots__ = ("descriptor",)

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, OPEN_FLAGS | os.O_CREAT, 0o644)
        try:
            lock_descriptor(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor

    def release(self) -> None:
        """Gives the lock back; again without harm."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _sync(path: Path, flags: int, sync: Callable[[int], None]) -> None:
    descriptor = os.open(path, flags)
    try:
        with naming(path):
            sync(descriptor)
    finally:
        os.close(descriptor)


class FilesByPath:
    """See the module."""

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
        with telling_full("create", path):
            path.mkdir()

    def boot_id(self) -> str:
        """What names the time since the machine was started, while which nothing written is lost; empty where it has no such name."""
        try:
            return self.read_file(_BOOT_ID).decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def read_file(self, path: Path) -> bytes:
        """The whole file."""
        descriptor = os.open(path, READ_FLAGS)
        try:
            with naming(path):
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
        with telling_full("write", path):
            descriptor = os.open(path, OPEN_FLAGS | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                with naming(path):
                    view = memoryview(data)
                    while view:
                        view = view[os.write(descriptor, view) :]
                    if sync:
                        sync_descriptor(descriptor)
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
        with telling_full("rename", source):
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
        _sync(path, OPEN_FLAGS, sync_descriptor)

    def sync_directory(self, path: Path) -> None:
        """Waits until a directory's entries (files created, renamed, deleted) are on the disk."""
        if sys.platform == "win32":  # pragma: no cover - directories cannot be opened there
            return
        _sync(path, os.O_RDONLY, os.fsync)

    @property
    def can_sync_file_system(self) -> bool:
        """Whether `sync_file_system` works here."""
        return syncfs() is not None

    def sync_file_system(self, path: Path, since: FileLock | None = None) -> None:
        """Waits until all that was written to the file system of a directory is on the disk, by whomever.

        Args:
            path: the directory.
            since: a lock on a file of that file system. A write that failed since it was taken is an error here; without it, one that
                somebody else's sync was told of may not be.
        """
        sync = syncfs()
        assert sync is not None
        if since is None:
            _sync(path, os.O_RDONLY, sync)
            return
        with naming(path):
            sync(since.descriptor)

    def lock(self, path: Path) -> FileLock:
        """Locks a file, created if need be; BlockingIOError if somebody else holds it."""
        return FileLock(path)
