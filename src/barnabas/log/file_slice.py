"""An open file, and a run of its bytes on its way to a socket."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from barnabas.errors import StorageError
from barnabas.log.disk_errors import failure
from barnabas.log.system_calls import send_file

if TYPE_CHECKING:
    from barnabas.log.files import Files

__all__ = ["ColdRead", "File", "FileSlice"]


class ColdRead(Exception):  # noqa: N818 - not an error: the answer is to warm and try again
    """A read that was not to wait found bytes that are not in the page cache.

    Call `warm` in a worker thread, then `release`, and read again; if that finds something else missing, once more or with waiting.
    """

    def __init__(self, region: FileSlice) -> None:
        super().__init__(f"{region.size} bytes of {region.path} are not in the page cache")
        self._region = region

    def warm(self) -> None:
        """Reads what was missing, so that it is in the page cache; for a worker thread."""
        self._region.warm()

    def release(self) -> None:
        """The file may be closed again; for the loop's thread, once no other is at it."""
        self._region.release()


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
            sent = send_file(socket_fd, descriptor, self.position + offset, count)
        except OSError as error:
            if error.errno == errno.EIO:
                raise failure("read", file.path, error) from error
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
