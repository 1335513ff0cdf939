"""The files of the metadata log: segments and snapshots in the directory `__cluster_metadata-0`, as Apache Kafka has them.

    00000000000000000000.log                    record batches from offset 0 on
    00000000000000004242.log                    ... from offset 4242 on; appended to
    00000000000000004242-0000000003.checkpoint  a snapshot of everything below offset 4242, written in epoch 3
    .lock                                       held while a broker uses the directory
    partition.metadata                          the id of the metadata topic
    leader-epoch-checkpoint                     which epoch began at which offset
    quorum-state                                who leads; for Apache Kafka, should it ever take the directory over
    .reserve                                    room for changes on a full disk: topics can be deleted, settings changed

The two newest snapshots are kept, and the segments since the older of them: should the newest be damaged, the one before
and the log still make the whole. Index files of Apache Kafka are deleted, because it rebuilds those that are missing but
trusts those that are there.

Nothing here waits for the disk by itself, except `load` at the start: `sync` and `write_snapshot` are for a worker thread.

Source: `KafkaRaftLog`, `Snapshots`, `FileQuorumStateStore` of Apache Kafka.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.store.batches import Replay, Voters, decode_snapshot, scan_log
from barnabas.errors import DecodeError, DiskFullError, StorageError
from barnabas.log.checkpoints import decode_checkpoint, encode_checkpoint
from barnabas.log.partition_metadata import PARTITION_METADATA, encode_partition_metadata
from barnabas.metadata.identifiers import CLUSTER_METADATA_TOPIC_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from barnabas.log.files import File, FileLock, Files

__all__ = ["METADATA_DIRECTORY", "LoadedLog", "MetadataLog"]

logger = logging.getLogger(__name__)

METADATA_DIRECTORY = "__cluster_metadata-0"
"""Its name in the log directory that has it."""

_SEGMENT = re.compile(r"(\d{20})\.log")
_SNAPSHOT = re.compile(r"(\d{20})-(\d{10})\.checkpoint")
_REBUILT = re.compile(r"\d{20}\.(index|timeindex|txnindex|snapshot)")
_LEFT_OVER = re.compile(r".*\.(tmp|part|deleted|swap|cleaned)")
_KEPT_SNAPSHOTS = 2
_RESERVE = ".reserve"
_RESERVE_BYTES = 1 << 18
_RESERVE_PART_BYTES = 1 << 13
_RESERVE_MADE_ABOVE_BYTES = 2 << 20


class _TornEnd(NamedTuple):
    """Bytes at the end of the last segment that are no whole batches."""

    path: Path
    position: int
    rest: bytes
    complaint: str


class LoadedLog(NamedTuple):
    """What was found.

    Attributes:
        snapshot: The records of the newest snapshot that is whole; empty when there is none.
        snapshot_offset: The offset after the last record that the snapshot covers.
        snapshot_epoch: The epoch in which it was written.
        records: The records of the log since then.
        next_offset: The offset after the last record.
        epoch: The last epoch in which anything was written; 0 for a new log.
        in_transaction: The log ends within a transaction that nobody will ever end.
        damage: What is wrong with the log's end, if anything: a crash may have torn it, or it was damaged later.
    """

    snapshot: list[Any]
    snapshot_offset: int
    snapshot_epoch: int
    records: list[Any]
    next_offset: int
    epoch: int
    in_transaction: bool
    damage: str | None = None


class MetadataLog:
    """The files in `directory`; see the module.

    Attributes:
        size_since_snapshot: Bytes that a start has to replay on top of the newest snapshot.
        snapshot_size: Bytes of that snapshot.
        last_timestamp_ms: When the last batch was written, or -1.
        voters: What an Apache Kafka with a dynamic quorum said of its voters, for the next snapshot.
    """

    __slots__ = (
        "_active",
        "_active_base",
        "_active_size",
        "_closed",
        "_files",
        "_is_begun",
        "_is_new",
        "_lock",
        "_reserve_bytes",
        "_segments",
        "_snapshots",
        "_torn",
        "directory",
        "last_timestamp_ms",
        "size_since_snapshot",
        "snapshot_size",
        "voters",
    )

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self.directory = directory
        self._segments: list[int] = []
        self._snapshots: list[tuple[int, int]] = []
        self._active: File | None = None
        self._active_base = 0
        self._active_size = 0
        self._closed: Path | None = None
        self._is_new = False
        self._is_begun = False
        self._torn: _TornEnd | None = None
        self._lock: FileLock | None = None
        self._reserve_bytes = 0
        self.size_since_snapshot = 0
        self.snapshot_size = 0
        self.last_timestamp_ms = -1
        self.voters: Voters = {}

    # ----- starting

    def load(self) -> LoadedLog:
        """Reads everything. What a crash left half-written at the end is left out, and cut off by `cut_torn_end`.

        Raises:
            StorageError: It cannot be read, or parts are missing; the message says which and what to do.
        """
        try:
            return self._load()
        except OSError as error:
            self.close()
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"cannot read the metadata log in {self.directory}: {error}; "
                "let this user read and write it, or mend the disk"
            ) from error

    def _load(self) -> LoadedLog:
        self._find_files()
        snapshot, offset, snapshot_epoch = self._load_snapshot()
        first = self._segments[0] if self._segments else offset
        if first > offset:
            raise StorageError(
                f"{self.directory} begins at offset {first} and has no usable snapshot of what was before; "
                "restore the directory from a backup"
            )
        replay = Replay()
        damage = None
        expected, epoch = first, snapshot_epoch
        for number, base in enumerate(self._segments):
            if base != expected:
                before = self._segment_path(self._segments[number - 1])
                raise StorageError(
                    f"{self._segment_path(base)} begins at offset {base}, but {before.name} ends at {expected}; "
                    "restore the directory from a backup"
                )
            is_last = number == len(self._segments) - 1
            expected, last_epoch = self._load_segment(base, replay, offset, is_last=is_last)
            epoch = max(epoch, last_epoch)
        self.voters |= replay.voters
        if self._torn is not None:
            damage = f"{self._torn.path} is damaged at byte {self._torn.position} ({self._torn.complaint})"
        elif not self._is_begun and not expected:
            damage = f"{self.directory} has no records"
        elif self._last_epoch_start() > max(expected, offset):
            damage = (
                f"{self.directory} ends at offset {max(expected, offset)}, though a later epoch had begun"
            )
        if expected < offset:
            # All that the log lacks is in the snapshot: what is left of it is of no use, and the next record follows the
            # snapshot.
            self._drop_segments()
            expected = offset
        loaded = LoadedLog(
            snapshot,
            offset,
            snapshot_epoch,
            replay.records,
            expected,
            max(epoch, 0),
            replay.in_transaction,
            damage,
        )
        if replay.in_transaction:
            replay.abort()
        if not self._segments:
            self.roll(expected)
        self.make_reserve()
        return loaded

    def _find_files(self) -> None:
        files = self._files
        for directory in (self.directory.parent, self.directory):
            if not files.exists(directory):
                files.make_directory(directory)
                files.sync_directory(directory.parent)
        try:
            self._lock = files.lock(self.directory / ".lock")
        except BlockingIOError:
            raise StorageError(
                f"{self.directory} is in use by another broker; give this one another metadata.log.dir"
            ) from None
        for name in files.list_directory(self.directory):
            if match := _SEGMENT.fullmatch(name):
                self._segments.append(int(match[1]))
            elif match := _SNAPSHOT.fullmatch(name):
                self._snapshots.append((int(match[1]), int(match[2])))
            elif _REBUILT.fullmatch(name) or _LEFT_OVER.fullmatch(name):
                files.delete(self.directory / name)
        metadata = self.directory / PARTITION_METADATA
        if not files.exists(metadata):
            self._is_begun = not self._segments and not self._snapshots
            # Whoever made the directory may have been killed before its entry was on the disk.
            with contextlib.suppress(PermissionError):
                files.sync_directory(self.directory.parent.parent)
            files.replace_file(metadata, encode_partition_metadata(CLUSTER_METADATA_TOPIC_ID))

    def _load_snapshot(self) -> tuple[list[Any], int, int]:
        for offset, epoch in sorted(self._snapshots, reverse=True):
            path = self._snapshot_path(offset, epoch)
            content = self._files.read_file(path)
            try:
                records = decode_snapshot(content, self.voters)
            except DecodeError as error:
                aside = path.with_name(f"{path.name}.damaged")
                self._files.rename(path, aside)
                self._snapshots.remove((offset, epoch))
                logger.warning(
                    "metadata snapshot is damaged and put aside path=%s as=%s reason=%s",
                    path,
                    aside.name,
                    error,
                )
                continue
            self.snapshot_size = len(content)
            return records, offset, epoch
        return [], 0, 0

    def _load_segment(self, base: int, replay: Replay, from_offset: int, *, is_last: bool) -> tuple[int, int]:
        path = self._segment_path(base)
        content = self._files.read_file(path)
        try:
            scan = scan_log(content, replay, expected_offset=base, from_offset=from_offset)
        except DecodeError as error:
            raise StorageError(
                f"{path} holds a record that cannot be read ({error}); restore the directory from a backup"
            ) from error
        if scan.complaint is not None:
            if not is_last:
                raise StorageError(
                    f"{path} is damaged at byte {scan.size_bytes} ({scan.complaint}) and is not the last segment; "
                    "restore the directory from a backup"
                )
            self._torn = _TornEnd(path, scan.size_bytes, content[scan.size_bytes :], scan.complaint)
        if scan.next_offset > from_offset:
            self.size_since_snapshot += scan.size_bytes
        self.last_timestamp_ms = max(self.last_timestamp_ms, scan.timestamp_ms)
        if is_last:
            self._active = self._files.handle(path)
            self._active_base, self._active_size = base, scan.size_bytes
        return scan.next_offset, scan.epoch

    def _last_epoch_start(self) -> int:
        """Where the newest epoch began that was noted, which may never have reached the log; 0 if none was."""
        return max((start for _, start in self._begun_epochs()), default=0)

    def cut_torn_end(self) -> None:
        """Cuts off what is not whole. It was never acknowledged, but in case it was, its bytes stay in another file.

        Raises:
            OSError: It cannot be written.
        """
        if self._torn is None:
            return
        path, size_bytes, rest, complaint = self._torn
        self._torn = None
        saved = path.with_name(f"{path.name}.{size_bytes}.truncated")
        if rest.strip(b"\0"):
            self._files.replace_file(saved, rest)
        with self._files.opened(path) as file:
            self._files.truncate(file, size_bytes)
            self._files.sync(file)
        logger.warning(
            "torn end of the metadata log is cut off path=%s at=%d bytes=%d reason=%s",
            path,
            size_bytes,
            len(rest),
            complaint,
        )

    def sync_found(self) -> None:
        """Brings to the disk what `load` has read: a process that was killed may have left it in the page cache.

        What follows would be lost with it when the power fails: records are of no use without those before them, nor is a
        file whose name is not on the disk.

        Raises:
            OSError: It cannot be written.
        """
        for base in self._segments:
            self._files.sync_file(self._segment_path(base))
        for directory in (self.directory, self.directory.parent):
            self._files.sync_directory(directory)

    def _drop_segments(self) -> None:
        self._torn = None
        if self._active is not None:
            self._files.detach(self._active)
            self._active = None
        for base in self._segments:
            self._files.delete(self._segment_path(base))
        self._segments.clear()
        self.size_since_snapshot = 0

    def begin_epoch(self, leader_id: int, epoch: int, offset: int) -> None:
        """Notes that `leader_id` leads from `offset` on. What these files say is also in the log."""
        path = self.directory / "leader-epoch-checkpoint"
        begun = self._begun_epochs()
        lines = [(other, start) for other, start in begun if other < epoch and start < offset]
        lines = [*lines[-999:], (epoch, offset)]
        self._in_reserve(
            lambda: self._files.replace_file(
                path, encode_checkpoint(f"{other} {start}" for other, start in lines), sync=False
            )
        )
        state = (
            f'{{"clusterId":"","leaderId":{leader_id},"leaderEpoch":{epoch},"votedId":-1,"appliedOffset":0,'
            f'"currentVoters":[{{"voterId":{leader_id}}}],"data_version":0}}'
        )
        self._in_reserve(
            lambda: self._files.replace_file(self.directory / "quorum-state", state.encode(), sync=False)
        )

    def _begun_epochs(self) -> list[tuple[int, int]]:
        path = self.directory / "leader-epoch-checkpoint"
        try:
            return [
                (int(fields[0]), int(fields[1]))
                for fields in decode_checkpoint(self._files.read_file(path), path)
            ]
        except (FileNotFoundError, StorageError, ValueError, IndexError):
            return []

    # ----- appending: the loop's thread writes, a worker thread syncs

    @property
    def active_size(self) -> int:
        """Bytes of the segment that is appended to."""
        return self._active_size

    def write(self, data: bytes | bytearray) -> None:
        """Writes batches at the end; they are on the disk after the next `sync`. DiskFullError if there is no room."""
        active = self._active
        assert active is not None
        self._in_reserve(lambda: self._files.write_at(active, self._active_size, data))
        self._active_size += len(data)
        self.size_since_snapshot += len(data)

    def pin(self) -> File:
        """The file that is to be synced, which stays open until `unpin`."""
        assert self._active is not None
        self._files.pin(self._active)
        return self._active

    def unpin(self, file: File) -> None:
        """Ends a pin."""
        self._files.unpin(file)

    def sync(self, file: File) -> None:
        """Waits until what was written is on the disk; for a worker thread, with a pinned file."""
        if self._closed is not None:
            self._files.sync_file(self._closed)
            self._closed = None
        self._files.sync(file)
        if self._is_new:
            self._files.sync_directory(self.directory)
            self._is_new = False

    def roll(self, offset: int) -> None:
        """Begins a new segment with the record at `offset`."""
        if self._active is not None and self._active_base == offset:
            return
        begun: list[File] = []
        self._in_reserve(lambda: begun.append(self._files.create(self._segment_path(offset))))
        if self._active is not None:
            # What began the epoch may still be on its way to the disk, and the new segment begins after it.
            self._closed = self._active.path
            self._files.detach(self._active)
        self._active = begun[0]
        self._active_base, self._active_size = offset, 0
        self._segments.append(offset)
        self._is_new = True

    # ----- a full disk

    def make_reserve(self) -> None:
        """Keeps some room for changes of metadata, where there is plenty; nothing if it is there."""
        path = self.directory / _RESERVE
        try:
            self._reserve_bytes = self._files.size(path) if self._files.exists(path) else 0
            if (
                self._reserve_bytes < _RESERVE_BYTES
                and self._files.free_bytes(self.directory) >= _RESERVE_MADE_ABOVE_BYTES
            ):
                # Random bytes, since some file systems need no room for zeros.
                self._files.write_file(path, os.urandom(_RESERVE_BYTES))
                self._reserve_bytes = _RESERVE_BYTES
        except OSError as error:
            logger.debug("no room is kept for changes of metadata path=%s reason=%s", path, error)

    @property
    def is_short_of_reserve(self) -> bool:
        """Whether some of the reserve was used."""
        return self._reserve_bytes < _RESERVE_BYTES

    def _in_reserve(self, write: Callable[[], None]) -> None:
        """Writes something small; on a full disk in what the reserve gives up for it."""
        try:
            write()
        except DiskFullError:
            if not self._reserve_bytes:
                raise
            path = self.directory / _RESERVE
            self._reserve_bytes = max(self._reserve_bytes - _RESERVE_PART_BYTES, 0)
            logger.warning(
                "disk is full, metadata uses its reserve path=%s bytes_left=%d", path, self._reserve_bytes
            )
            with self._files.opened(path) as file:
                self._files.truncate(file, self._reserve_bytes)
            self._in_reserve(write)

    # ----- snapshots

    def write_snapshot(self, batches: Iterable[bytearray], offset: int, epoch: int) -> int:
        """Writes a snapshot of everything below `offset`; returns its size. For a worker thread.

        Raises:
            OSError: It could not be written; nothing has changed.
        """
        content = b"".join(batches)
        self._files.replace_file(self._snapshot_path(offset, epoch), content)
        return len(content)

    def adopt_snapshot(self, offset: int, epoch: int, size_bytes: int, replaced_bytes: int) -> list[Path]:
        """From now on a start reads this snapshot first, in place of `replaced_bytes` of log.

        Returns the files that nobody needs any more.
        """
        self._snapshots.append((offset, epoch))
        self._snapshots.sort()
        self.snapshot_size = size_bytes
        self.size_since_snapshot -= replaced_bytes
        unneeded = [self._snapshot_path(*old) for old in self._snapshots[:-_KEPT_SNAPSHOTS]]
        del self._snapshots[:-_KEPT_SNAPSHOTS]
        oldest = self._snapshots[0][0] if len(self._snapshots) == _KEPT_SNAPSHOTS else 0
        # A segment ends where the next one begins; the last one is in use.
        while len(self._segments) > 1 and self._segments[1] <= oldest:
            unneeded.append(self._segment_path(self._segments.pop(0)))
        return unneeded

    def delete(self, paths: Iterable[Path]) -> None:
        """Deletes files that `adopt_snapshot` gave; for a worker thread."""
        for path in paths:
            self._files.delete(path)

    def close(self) -> None:
        """Closes the file that is appended to, and lets another broker have the directory."""
        if self._active is not None:
            self._files.detach(self._active)
            self._active = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _segment_path(self, base: int) -> Path:
        return self.directory / f"{base:020d}.log"

    def _snapshot_path(self, offset: int, epoch: int) -> Path:
        return self.directory / f"{offset:020d}-{epoch:010d}.checkpoint"
