"""Checkpoint files: a few lines of text that are replaced as a whole.

    0                  version
    2                  how many lines follow
    orders 0 1200
    orders 1 1188

A checkpoint is written to a temporary file, synced and renamed, so that a crash leaves the old one or the new one.

`OffsetCheckpoint` holds an offset per partition, in the top of a log directory: `recovery-point-offset-checkpoint`
(everything below is on the disk), `log-start-offset-checkpoint`, `replication-offset-checkpoint` (high watermarks).

Source: `CheckpointFile`, `OffsetCheckpointFile` of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import StorageError
from barnabas.records.checksum import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from barnabas.log.files import Files

__all__ = ["OffsetCheckpoint", "decode_checkpoint", "encode_checkpoint"]

VERSION = 0


def encode_checkpoint(lines: Iterable[str]) -> bytes:
    """The content of a checkpoint file."""
    body = list(lines)
    return "\n".join([str(VERSION), str(len(body)), *body, ""]).encode()


def decode_checkpoint(content: bytes, path: Path) -> list[list[str]]:
    """The fields of each line; an empty file, as Apache Kafka creates it, has no lines.

    Raises:
        StorageError: the file is damaged, or has another version.
    """
    if not content:
        return []
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise StorageError(f"{path} is not a checkpoint file: it holds bytes that are not text") from None
    if not lines or lines[0].strip() != str(VERSION):
        raise StorageError(f"{path} does not begin with the version {VERSION} of a checkpoint file")
    if len(lines) < 2 or not lines[1].strip().isdecimal():
        raise StorageError(f"{path} does not say how many lines it has")
    body = [line.split() for line in lines[2:] if line.strip()]
    if len(body) != int(lines[1]):
        raise StorageError(f"{path} says that it has {int(lines[1])} lines, and has {len(body)}")
    return body


class OffsetCheckpoint:
    """An offset per topic and partition."""

    __slots__ = ("_files", "path")

    def __init__(self, files: Files, path: Path) -> None:
        self._files = files
        self.path = path

    def checksum(self) -> int | None:
        """The CRC-32C of the file; None if there is none. Raises OSError."""
        try:
            return crc32c(self._files.read_file(self.path))
        except FileNotFoundError:
            return None

    def read(self, *, checksum: int | None = None) -> dict[tuple[str, int], int]:
        """What was last written; empty if there is no file.

        Args:
            checksum: the CRC-32C that the file should have, if that is known.

        Raises:
            StorageError: the file is damaged; the message says how.
        """
        try:
            content = self._files.read_file(self.path)
        except FileNotFoundError:
            return {}
        if checksum is not None and checksum != crc32c(content):
            raise StorageError(f"{self.path} is not as it was when its logs were closed")
        offsets: dict[tuple[str, int], int] = {}
        for fields in decode_checkpoint(content, self.path):
            try:
                topic, partition, offset = fields
                offsets[topic, int(partition)] = int(offset)
            except ValueError:
                raise StorageError(
                    f"{self.path} has the line {' '.join(fields)!r}, not topic, partition, offset"
                ) from None
        return offsets

    def write(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Replaces the file, durably; raises OSError."""
        lines = (f"{topic} {partition} {offset}" for (topic, partition), offset in offsets.items())
        self._files.replace_file(self.path, encode_checkpoint(lines))
