"""A partition's directory: its segments in order, the producers and leader epochs that go with them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError, StorageError
from barnabas.log.checkpoints import decode_checkpoint
from barnabas.log.file_names import (
    LEFTOVER_SUFFIXES,
    LOG_SUFFIX,
    parse_file_name,
    segment_file_name,
)
from barnabas.log.leader_epochs import FILE_NAME as LEADER_EPOCHS_FILE_NAME
from barnabas.log.partition_metadata import PARTITION_METADATA, read_topic_id
from barnabas.log.producer_snapshot import decode_snapshot, snapshot_offset
from barnabas.log.verification.segment import check_segment

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.log.end_marker import EndMarker
    from barnabas.log.files import Files
    from barnabas.log.verification.findings import Findings
    from barnabas.records.batch import BatchHeader

__all__ = ["CheckedPartition", "check_partition"]

PRODUCERS_MAX = 200_000
"""How many producers are remembered, to compare them with the snapshots."""


class _Epochs:
    """Whether the leader epochs' file says of each batch what the batch says itself; the first contradiction is told.

    Neither has a checksum: the batch's own covers what is behind the epoch.
    """

    def __init__(
        self,
        path: Path,
        entries: list[tuple[int, int]],
        findings: Findings,
        *,
        is_clean: bool,
        is_damaged: bool,
    ) -> None:
        self._path = path
        self._epochs = [epoch for epoch, _ in entries]
        self._start_offsets = [start_offset for _, start_offset in entries]
        self._findings = findings
        self._is_clean = is_clean
        self._is_told = is_damaged
        self._highest = -1

    def on_batch(self, header: BatchHeader) -> None:
        epoch = header.partition_leader_epoch
        self._highest = max(self._highest, epoch)
        index = bisect_right(self._start_offsets, header.base_offset) - 1
        if self._is_told or index < 0 or epoch < 0:
            return
        if epoch > self._epochs[-1] and not self._is_clean:
            return  # the broker was killed before it wrote the file; the next start finds the epoch
        # A follower that was killed may have cut its log and gone on in another epoch; the next start looks at what it recovers.
        tell = self._findings.problem if self._is_clean else self._findings.note
        if epoch != self._epochs[index]:
            self._is_told = True
            tell(
                self._path,
                f"says that offset {header.base_offset} is of leader epoch {self._epochs[index]}, but the batch there is of {epoch}",
            )
        elif bisect_right(self._start_offsets, header.last_offset) - 1 != index:
            self._is_told = True
            tell(
                self._path,
                f"says that leader epoch {self._epochs[index + 1]} begins at offset {self._start_offsets[index + 1]}, within a batch of {epoch}",
            )

    def finish(self, end_offset: int) -> None:
        """Of the file's end, and what is behind it."""
        if not self._is_told and self._highest > (self._epochs[-1] if self._epochs else -1):
            ends = f"ends with leader epoch {self._epochs[-1]}" if self._epochs else "has no leader epochs"
            self._findings.note(self._path, f"{ends}, but the log has records of {self._highest}")
        for epoch, start_offset in zip(self._epochs, self._start_offsets, strict=True):
            if start_offset > end_offset:
                self._findings.note(
                    self._path,
                    f"says that leader epoch {epoch} begins at offset {start_offset}, behind the end of the log at {end_offset}",
                )


class CheckedPartition(NamedTuple):
    """Where the log begins and ends, by its segments."""

    start_offset: int
    end_offset: int


class _Producers:
    """Epoch, last sequence number and last offset of each producer, as the batches tell."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, int, int]] = {}
        self.is_complete = True

    def on_batch(self, header: BatchHeader, marker: EndMarker | None) -> None:
        producer_id = header.producer_id
        if producer_id < 0:
            return
        if marker is not None:
            epoch, sequence, offset = self.known.get(producer_id, (-1, -1, -1))
            if header.producer_epoch != epoch:
                sequence, offset = -1, -1
            self.known[producer_id] = (header.producer_epoch, sequence, offset)
        elif not header.is_control:
            if producer_id not in self.known and len(self.known) >= PRODUCERS_MAX:
                self.is_complete = False
                return
            self.known[producer_id] = (header.producer_epoch, header.last_sequence, header.last_offset)


def check_partition(
    files: Files, directory: Path, findings: Findings, *, is_clean: bool, has_metadata: bool = True
) -> CheckedPartition:
    """Checks all files of a partition.

    Args:
        files: the disk.
        directory: the partition's.
        findings: where to tell.
        is_clean: whether the broker stopped in order.
        has_metadata: whether the directory is to have a `partition.metadata`.

    Raises:
        OSError: a file cannot be read.
    """
    findings.partitions += 1
    names = [entry.name for entry in files.entries(directory)]
    bases: list[int] = []
    snapshots: list[int] = []
    for name in names:
        parsed = parse_file_name(name)
        if parsed is not None:
            if parsed[1] == LOG_SUFFIX:
                bases.append(parsed[0])
            elif segment_file_name(parsed[0], LOG_SUFFIX) not in names:
                findings.note(directory / name, "belongs to no segment; a start deletes it")
        elif name.endswith(LEFTOVER_SUFFIXES):
            findings.note(
                directory / name, "is out of use, or half-way through compaction; a start settles it"
            )
        elif (offset := snapshot_offset(name)) is not None:
            snapshots.append(offset)
    bases.sort()
    snapshots.sort()
    if has_metadata and read_topic_id(files, directory) is None:
        findings.note(directory / PARTITION_METADATA, "is missing or damaged; a start makes it anew")
    if not bases:
        findings.note(directory, "has no segment; a start begins an empty log")
        return CheckedPartition(0, 0)

    epochs = _read_epochs(files, directory, findings, is_clean=is_clean)
    producers = _Producers()

    def on_batch(header: BatchHeader, marker: EndMarker | None) -> None:
        while pending and pending[0] <= header.base_offset:
            _check_snapshot(files, directory, pending.pop(0), producers, findings)
        producers.on_batch(header, marker)
        epochs.on_batch(header)

    pending = list(snapshots)
    unended: set[int] = set()
    end_offset = bases[0]
    for base_offset, following in [*pairwise(bases), (bases[-1], None)]:
        if base_offset < end_offset:
            findings.problem(
                directory / segment_file_name(base_offset, LOG_SUFFIX),
                f"begins at offset {base_offset}, but the segment before it ends at {end_offset}",
            )
        checked = check_segment(
            files,
            directory,
            base_offset,
            findings,
            on_batch,
            unended,
            is_last=following is None,
            is_clean=is_clean,
        )
        end_offset = max(checked.next_offset, base_offset)
    for offset in pending:
        if offset > end_offset:
            findings.note(
                directory / f"{offset:020d}.snapshot",
                f"is of offset {offset}, behind the end of the log at {end_offset}; a start deletes it",
            )
        else:
            _check_snapshot(files, directory, offset, producers, findings)
    epochs.finish(end_offset)
    return CheckedPartition(bases[0], end_offset)


def _read_epochs(files: Files, directory: Path, findings: Findings, *, is_clean: bool) -> _Epochs:
    """What the file says; nothing if there is none, or it is damaged."""
    path = directory / LEADER_EPOCHS_FILE_NAME
    entries = []
    damage = None
    try:
        entries = [
            (int(epoch), int(offset)) for epoch, offset in decode_checkpoint(files.read_file(path), path)
        ]
    except FileNotFoundError:
        pass
    except StorageError as error:
        damage = f"is damaged: {error}"
    except ValueError:
        damage = "is damaged: a line is not an epoch and an offset"
    for before, after in pairwise(entries):
        if after[0] <= before[0] or after[1] < before[1]:
            damage = f"does not rise: {after} after {before}"
            entries = []
            break
    if damage is not None:
        findings.problem(path, damage)
    return _Epochs(path, entries, findings, is_clean=is_clean, is_damaged=damage is not None)


def _check_snapshot(
    files: Files, directory: Path, offset: int, producers: _Producers, findings: Findings
) -> None:
    path = directory / f"{offset:020d}.snapshot"
    try:
        entries = decode_snapshot(files.read_file(path))
    except DecodeError as error:
        findings.note(path, f"is not usable ({error}); a start reads the log instead")
        return
    for entry in entries:
        if entry.last_offset >= offset:
            findings.problem(
                path, f"knows offset {entry.last_offset} of producer {entry.producer_id}, which comes later"
            )
            return
        # Producers whose batches are deleted are not known from the log.
        epoch, sequence, last_offset = producers.known.get(entry.producer_id, (-1, -1, -1))
        if 0 <= entry.last_offset < last_offset:
            findings.problem(
                path,
                f"says that producer {entry.producer_id} came to offset {entry.last_offset}, but the log has {last_offset}",
            )
            return
        if entry.last_offset == last_offset >= 0 and (entry.epoch, entry.last_sequence) != (epoch, sequence):
            findings.problem(
                path,
                f"says that producer {entry.producer_id} came to epoch {entry.epoch} and sequence number "
                f"{entry.last_sequence}, but the log has {epoch} and {sequence}",
            )
            return
