"""Reads the batches of segments that are being cleaned, a buffer at a time, and checks them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from barnabas.errors import DecodeError
from barnabas.log.file_names import LOG_SUFFIX, segment_file_name
from barnabas.records.batch import ATTRIBUTES_POSITION, HEADER_SIZE, LENGTH_END, MAGIC, parse_header
from barnabas.records.checksum import crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from barnabas.log.cleaning.tasks import Source
    from barnabas.log.files import Files
    from barnabas.records.batch import BatchHeader

__all__ = ["BatchReader", "DamagedError", "Throttle"]

_SMALLEST_LENGTH = HEADER_SIZE - LENGTH_END
_SHORTEST_SLEEP_S = 0.001


class Throttle:
    """Keeps reads and writes to so many bytes a second on average, by sleeping.

    Args:
        bytes_per_second: the limit.
        now: a clock in seconds.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        bytes_per_second: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds_per_byte = 1 / max(bytes_per_second, 1e-9)
        self._now = now
        self._sleep = sleep
        self._free_at = now()

    def spend(self, count: int) -> None:
        """So many bytes were read or written."""
        now = self._now()
        self._free_at = max(self._free_at, now) + count * self._seconds_per_byte
        if self._free_at - now > _SHORTEST_SLEEP_S:
            self._sleep(self._free_at - now)


class DamagedError(DecodeError):
    """A segment is damaged; the message says where."""


class BatchReader:
    """See the module.

    Args:
        files: the disk; handles are opened and closed here.
        directory: the partition's.
        buffer_bytes: how much is read at once; more for a larger batch.
        throttle: told of what is read.
    """

    def __init__(self, files: Files, directory: Path, buffer_bytes: int, throttle: Throttle) -> None:
        self._files = files
        self._directory = directory
        self._buffer_bytes = buffer_bytes
        self._throttle = throttle

    def read(self, source: Source, position: int) -> Iterator[tuple[int, BatchHeader, bytes, int]]:
        """Each batch of a segment: its position there, its header, and a buffer with its position in that.

        Raises:
            DamagedError: there is none, or one that is not as it was written.
            OSError: the disk failed.
        """
        path = self._directory / segment_file_name(source.base_offset, LOG_SUFFIX)
        size = source.size
        next_offset, end_offset = source.base_offset, source.next_base_offset
        needed = self._buffer_bytes
        with self._files.opened(path) as file:
            while position < size:
                buffer = self._files.read_at(file, position, min(needed, size - position))
                self._throttle.spend(len(buffer))
                needed = self._buffer_bytes
                view = memoryview(buffer)
                at, filled = 0, len(buffer)
                while filled - at >= HEADER_SIZE:
                    header = parse_header(buffer, at)
                    base_offset, length, _, magic, crc, _, last_delta = header[:7]
                    if magic != MAGIC or length < _SMALLEST_LENGTH:
                        raise DamagedError(f"{path} has no record batch at position {position + at}")
                    end = at + LENGTH_END + length
                    if end > filled:
                        # A batch larger than the buffer is read on its own.
                        needed = max(needed, end - at)
                        break
                    if crc32c(view[at + ATTRIBUTES_POSITION : end]) != crc:
                        raise DamagedError(
                            f"the batch at position {position + at} of {path} fails its checksum"
                        )
                    # The checksum does not cover the offset.
                    if not next_offset <= base_offset <= base_offset + last_delta < end_offset:
                        raise DamagedError(
                            f"the batch at position {position + at} of {path} has the offsets {base_offset} to "
                            f"{base_offset + last_delta}, which are not within {next_offset} and {end_offset}"
                        )
                    next_offset = base_offset + last_delta + 1
                    yield position + at, header, buffer, at
                    at = end
                position += at
                if at == 0 and (filled < HEADER_SIZE or position + needed > size or filled >= needed):
                    raise DamagedError(f"{path} ends within the record batch at position {position}")

    def damaged(self, source: Source, position: int, error: DecodeError) -> DamagedError:
        """What went wrong with the batch at a position, and where."""
        if isinstance(error, DamagedError):
            return error
        path = self._directory / segment_file_name(source.base_offset, LOG_SUFFIX)
        return DamagedError(f"the batch at position {position} of {path} is damaged: {error}")
