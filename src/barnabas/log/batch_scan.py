"""Walking from batch header to batch header in a segment's file, without reading the records between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import DecodeError
from barnabas.records.batch import HEADER_SIZE, MAGIC, BatchHeader, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from barnabas.log.files import File, Files

__all__ = ["scan_headers"]

CHUNK_BYTES = 1 << 16


def scan_headers(
    files: Files, file: File, position: int, end: int, *, chunk_bytes: int = CHUNK_BYTES, wait: bool = True
) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of each batch from `position`, where one begins, to `end`.

    Args:
        files: where `file` belongs.
        file: the segment's file.
        position: where the first batch begins.
        end: where the last one ends.
        chunk_bytes: how much to read at once; small batches then share one read, of large ones the rest is not read.
        wait: as in `Files.read_at`.

    Raises:
        DecodeError: there is no batch, or a torn one, at the position that the message names.
        ColdRead: `wait` is False, and a header is not in the page cache.
    """
    while position < end:
        chunk = files.read_at(file, position, min(chunk_bytes, end - position), wait=wait)
        at = 0
        while len(chunk) - at >= HEADER_SIZE:
            header = parse_header(chunk, at)
            if header.magic != MAGIC or header.batch_length < HEADER_SIZE - 12:
                raise DecodeError(f"{file.path} has no record batch at position {position + at}")
            if position + at + header.size_bytes > end:
                raise DecodeError(f"{file.path} ends within the record batch at position {position + at}")
            yield position + at, header
            at += header.size_bytes
        if at == 0:
            raise DecodeError(f"{file.path} ends within the record batch at position {position}")
        position += at
