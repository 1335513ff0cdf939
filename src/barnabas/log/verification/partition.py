"""A partition's directory: its segments in order, the producers and leader epochs that go with them."""

from __future__ import annotations

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

    epochs = _check_epochs(files, directory, findings)
    producers = _Producers()
    highest_epoch = -1

    def on_batch(header: BatchHeader, marker: EndMarker | None) -> None:
        nonlocal highest_epoch
        while pending and pending[0] <= header.base_offset:
            _check_snapshot(files, directory, pending.pop(0), producers, findings)
        producers.on_batch(header, marker)
        highest_epoch = max(highest_epoch, header.partition_leader_epoch)

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
    if epochs is not None and epochs and highest_epoch > epochs[-1][0]:
        findings.note(
            directory / LEADER_EPOCHS_FILE_NAME,
            f"ends with leader epoch {epochs[-1][0]}, but the log has records of {highest_epoch}",
        )
    for epoch, start_offset in epochs or ():
        if start_offset > end_offset:
            findings.note(
                directory / LEADER_EPOCHS_FILE_NAME,
                f"says that leader epoch {epoch} begins at offset {start_offset}, behind the end of the log at {end_offset}",
            )
    return CheckedPartition(bases[0], end_offset)


def _check_epochs(files: Files, directory: Path, findings: Findings) -> list[tuple[int, int]] | None:
    """Epochs and start offsets of the file; None if there is none, or it is damaged."""
    path = directory / LEADER_EPOCHS_FILE_NAME
    try:
        content = files.read_file(path)
    except FileNotFoundError:
        return None
    try:
        entries = [(int(epoch), int(offset)) for epoch, offset in decode_checkpoint(content, path)]
    except StorageError as error:
        findings.problem(path, f"is damaged: {error}")
        return None
    except ValueError:
        findings.problem(path, "is damaged: a line is not an epoch and an offset")
        return None
    for before, after in pairwise(entries):
        if after[0] <= before[0] or after[1] < before[1]:
            findings.problem(path, f"does not rise: {after} after {before}")
    return entries


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
