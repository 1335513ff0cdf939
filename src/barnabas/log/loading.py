"""Opening a partition's directory: from files to segments.

After a clean shutdown only the directory's listing is read. After a crash, or where an index is missing or cannot be right,
the segments in question are recovered (`recovery.py`).

What interrupted work left behind is settled first (`leftovers.py`). An index without its .log file is deleted.

Source: `LogLoader` of Apache Kafka 4.3.
"""

from __future__ import annotations

import functools
import logging
from itertools import pairwise
from typing import TYPE_CHECKING

from barnabas.errors import DecodeError, StorageError
from barnabas.log.file_names import (
    ASIDE_SUFFIX,
    INDEX_SUFFIX,
    LEFTOVER_SUFFIXES,
    LOG_SUFFIX,
    TIME_INDEX_SUFFIX,
    parse_file_name,
    segment_file_name,
)
from barnabas.log.leader_epochs import FILE_NAME as LEADER_EPOCHS_FILE_NAME
from barnabas.log.leader_epochs import LeaderEpochs
from barnabas.log.leftovers import settle_leftovers
from barnabas.log.offset_index import ENTRY_SIZE as OFFSET_ENTRY_SIZE
from barnabas.log.recovery import find_recovery_start, recover_segment, reload_producers
from barnabas.log.segment import Segment
from barnabas.log.time_index import ENTRY_SIZE as TIME_ENTRY_SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Entry, Files
    from barnabas.log.producer_state import ProducerState

__all__ = ["LoadedLog", "load_log"]

logger = logging.getLogger(__name__)

_ENTRY_SIZES = {
    INDEX_SUFFIX: OFFSET_ENTRY_SIZE,
    TIME_INDEX_SUFFIX: TIME_ENTRY_SIZE,
}
_REQUIRED_INDEXES = (INDEX_SUFFIX, TIME_INDEX_SUFFIX)

SegmentFiles = dict[int, dict[str, "Entry"]]
"""Base offset -> suffix -> directory entry."""


class LoadedLog:
    """What was found in a directory.

    Attributes:
        segments: at least one, in order.
        log_start_offset: the first offset that can be read.
        log_end_offset: the offset that the next record gets.
        recovery_point: everything below is on the disk.
        epochs: the leader epochs; None if the file is still to be read.
        producers_are_loaded: whether the producer state stands at the log end offset already.
        is_repaired: whether files were changed.
    """

    __slots__ = (
        "epochs",
        "is_repaired",
        "log_end_offset",
        "log_start_offset",
        "producers_are_loaded",
        "recovery_point",
        "segments",
    )

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.log_start_offset = 0
        self.log_end_offset = 0
        self.recovery_point = 0
        self.epochs: LeaderEpochs | None = None
        self.producers_are_loaded = False
        self.is_repaired = False


def load_log(
    files: Files,
    directory: Path,
    config: LogConfig,
    producers: ProducerState,
    *,
    recovery_point: int,
    log_start_offset: int,
    clean: bool,
    now_ms: int,
) -> LoadedLog:
    """Loads the log in `directory`, repairing what can be repaired; in any thread.

    Args:
        files: where the segments will be read from; recovery uses handles of its own.
        directory: the partition's.
        config: the topic's settings.
        producers: the partition's producer state; stands at the log end afterwards, if anything had to be recovered.
        recovery_point: from its checkpoint; after a clean shutdown it is the log end offset.
        log_start_offset: from its checkpoint.
        clean: whether the shutdown was clean.
        now_ms: the wall clock.

    Raises:
        OSError: the disk failed, or (StorageError) a file is beyond what is repaired.
    """
    found, names = _list_segments(files, directory)
    loaded = LoadedLog()
    loaded.recovery_point = recovery_point
    producers.scan(names)

    private = files.private()
    try:
        if not clean:
            _recover(private, directory, config, producers, found, loaded, log_start_offset, now_ms)
            found, _ = _list_segments(files, directory)
            loaded.is_repaired = True
        if _rebuild_indexes(private, directory, config, found, now_ms):
            found, _ = _list_segments(files, directory)
            loaded.is_repaired = True
        end_offset, is_rebuilt = _end_offset(private, directory, config, found, loaded, now_ms, clean=clean)
        if is_rebuilt:
            found, _ = _list_segments(files, directory)
            loaded.is_repaired = True
    finally:
        private.close()

    if found and clean and end_offset < log_start_offset:
        logger.warning(
            "%s was closed at offset %d, before its log start offset %d in the checkpoint, which is not used",
            directory,
            end_offset,
            log_start_offset,
        )
        log_start_offset = 0
    if found and end_offset < log_start_offset:
        # A power failure took the end of the log, and what is left had been deleted on request; or the checkpoint is damaged.
        logger.warning(
            "%s ends at offset %d, before its log start offset %d: its segments are put aside (%s)",
            directory,
            end_offset,
            log_start_offset,
            ASIDE_SUFFIX,
        )
        _put_aside(files, directory, found)
        producers.truncate_fully_and_start_at(log_start_offset)
        loaded.epochs = LeaderEpochs()
        loaded.epochs.is_dirty = True
        loaded.producers_are_loaded = True
        found = {}
    if not found:
        end_offset = log_start_offset
        files.write_file(directory / segment_file_name(log_start_offset, LOG_SUFFIX), b"")
        found, _ = _list_segments(files, directory)
    if not config.is_compacted:
        _report_lost_records(directory, found)
    loaded.segments = [
        Segment.open(files, directory, base_offset, entries=entries, now_ms=now_ms)
        for base_offset, entries in found.items()
    ]
    loaded.log_end_offset = end_offset
    loaded.log_start_offset = max(log_start_offset, loaded.segments[0].base_offset)
    loaded.recovery_point = min(recovery_point, end_offset)
    producers.remove_stray_snapshots(found)
    if loaded.epochs is not None:
        loaded.epochs.truncate_from_end(end_offset)
        loaded.epochs.truncate_from_start(loaded.log_start_offset)
    return loaded


# ----- which files there are


def _list_segments(files: Files, directory: Path) -> tuple[SegmentFiles, list[str]]:
    """The segments' files by base offset, and all names; leftovers are settled first."""
    entries = files.entries(directory)
    if any(entry.name.endswith(LEFTOVER_SUFFIXES) for entry in entries):
        settle_leftovers(files, directory, [entry.name for entry in entries])
        entries = files.entries(directory)
    found: SegmentFiles = {}
    orphans: list[str] = []
    for entry in entries:
        parsed = parse_file_name(entry.name)
        if parsed is not None:
            found.setdefault(parsed[0], {})[parsed[1]] = entry
    for base_offset, segment_files in list(found.items()):
        if LOG_SUFFIX not in segment_files:
            orphans += [entry.name for entry in segment_files.values()]
            del found[base_offset]
    for name in orphans:
        logger.warning("%s belongs to no segment: deleted", directory / name)
        files.delete(directory / name)
    return found, [entry.name for entry in entries]


def _put_aside(files: Files, directory: Path, found: SegmentFiles) -> None:
    for entries in found.values():
        for entry in entries.values():
            files.rename(directory / entry.name, directory / (entry.name + ASIDE_SUFFIX))


def _report_lost_records(directory: Path, found: SegmentFiles) -> None:
    """Only compaction leaves a segment empty that others follow."""
    for base_offset, following in pairwise(found):
        if found[base_offset][LOG_SUFFIX].size == 0:
            logger.error(
                "%s is empty, though the log goes on at offset %d: what it held from offset %d on is lost",
                directory / segment_file_name(base_offset, LOG_SUFFIX),
                following,
                base_offset,
            )


def _delete_segment(files: Files, directory: Path, entries: dict[str, Entry]) -> None:
    for entry in entries.values():
        files.delete(directory / entry.name)


# ----- repairs


def _open(
    private: Files, directory: Path, config: LogConfig, base_offset: int, found: SegmentFiles, now_ms: int
) -> Segment:
    segment = Segment.open(private, directory, base_offset, entries=found[base_offset], now_ms=now_ms)
    segment.configure(config, 0)
    return segment


def _recover(
    private: Files,
    directory: Path,
    config: LogConfig,
    producers: ProducerState,
    found: SegmentFiles,
    loaded: LoadedLog,
    log_start_offset: int,
    now_ms: int,
) -> None:
    """Recovers the segments from the recovery point on."""
    epochs = loaded.epochs = LeaderEpochs.load(private, directory / LEADER_EPOCHS_FILE_NAME)
    bases = sorted(found)
    if not bases:
        return
    # Also the segment that ends at the recovery point: its indexes got their last entries after its batches were synced.
    first = max((index for index, base in enumerate(bases) if base < loaded.recovery_point), default=0)
    segments = [_open(private, directory, config, base, found, now_ms) for base in bases]
    start_offset = max(log_start_offset, bases[0])
    for index in range(first, len(segments)):
        segment = segments[index]
        start = find_recovery_start(segment, loaded.recovery_point)
        if index == first:
            # Below the recovery point all is on the disk, so that a snapshot up to there is right.
            known = max(start_offset, start.offset, loaded.recovery_point)
            reload_producers(producers, segments[: first + 1], start_offset, known, start.offset, now_ms)
        producers.map_end_offset = max(start.offset, producers.map_end_offset)
        recovered = recover_segment(
            segment,
            start,
            producers=producers,
            epochs=epochs,
            earlier=segments[:index],
            next_base_offset=bases[index + 1] if index + 1 < len(bases) else None,
            before_cut=functools.partial(_delete_later, private, directory, found, segments[index + 1 :]),
        )
        if index == first and index + 1 < len(segments):
            # No flush to come does, since it begins at the recovery point.
            _sync_indexes(private, segment)
        if recovered.next_offset < producers.map_end_offset:
            end_offset = max(recovered.next_offset, start_offset)
            reload_producers(producers, segments[: index + 1], start_offset, end_offset, end_offset, now_ms)
        producers.take_snapshot(sync=False)
        loaded.log_end_offset = recovered.next_offset
        if recovered.truncated_bytes:
            logger.warning(
                "%s: cut off the last %d bytes, the log goes on at offset %d, because %s",
                segment.file.path,
                recovered.truncated_bytes,
                recovered.next_offset,
                recovered.reason,
            )
            break
    loaded.producers_are_loaded = True


def _delete_later(private: Files, directory: Path, found: SegmentFiles, later: list[Segment]) -> None:
    """Deletes the segments behind one that is about to be cut.

    They must not come back when the power fails now: beside a segment that is cut to nothing they would pass for what is left of the
    log, and later for records of others who took their offsets.
    """
    for segment in later:
        logger.warning("%s follows a segment that was cut: deleted", segment.file.path)
        segment.detach()
        _delete_segment(private, directory, found[segment.base_offset])
    private.sync_directory(directory)


def _rebuild_indexes(
    private: Files, directory: Path, config: LogConfig, found: SegmentFiles, now_ms: int
) -> bool:
    """Rebuilds indexes that are missing or have an impossible size; whether there were any."""
    changed = False
    for base_offset, entries in found.items():
        fault = _index_fault(entries)
        if fault is None:
            continue
        segment = _open(private, directory, config, base_offset, found, now_ms)
        logger.warning("%s: %s, rebuilding the indexes", segment.file.path, fault)
        is_last = base_offset == max(found)
        recovered = recover_segment(segment, cut=is_last)
        _sync_indexes(private, segment)
        if recovered.truncated_bytes:
            logger.error(
                "%s is damaged though it was closed cleanly: %s; the last %d bytes are %s",
                segment.file.path,
                recovered.reason,
                recovered.truncated_bytes,
                "cut off" if is_last else "left in place, but are in no index",
            )
        changed = True
    return changed


def _sync_indexes(private: Files, segment: Segment) -> None:
    for entries in (segment.offset_index.entries, segment.time_index.entries):
        private.sync_file(entries.file.path)


def _index_fault(entries: dict[str, Entry]) -> str | None:
    if entries[LOG_SUFFIX].size == 0 and not any(suffix in entries for suffix in _REQUIRED_INDEXES):
        return None  # just created
    for suffix, entry_size in _ENTRY_SIZES.items():
        entry = entries.get(suffix)
        if entry is None:
            if suffix in _REQUIRED_INDEXES:
                return f"there is no {suffix} file"
        elif entry.size % entry_size:
            return f"the {suffix} file has {entry.size} bytes, not a multiple of {entry_size}"
    return None


def _end_offset(
    private: Files,
    directory: Path,
    config: LogConfig,
    found: SegmentFiles,
    loaded: LoadedLog,
    now_ms: int,
    *,
    clean: bool,
) -> tuple[int, bool]:
    """The log end offset: known from recovery, or from the recovery point of a clean shutdown, or looked up.

    And whether the indexes had to be rebuilt for that.
    """
    if not found:
        return 0, False
    if not clean:
        return loaded.log_end_offset, False
    base_offset = max(found)
    entries = found[base_offset]
    if entries[LOG_SUFFIX].size == 0:
        return base_offset, False
    if loaded.recovery_point > base_offset:
        return loaded.recovery_point, False
    segment = _open(private, directory, config, base_offset, found, now_ms)
    try:
        return segment.load_end(), False
    except DecodeError as error:
        recovered = recover_segment(segment, cut=False)
        if recovered.truncated_bytes:
            # How far it went is not known: what looks like garbage may be what somebody was promised.
            raise StorageError(
                f"{segment.file.path} is damaged, though it was closed cleanly: {recovered.reason}"
            ) from error
        logger.warning("%s: %s, the indexes are rebuilt", segment.file.path, error)
        _sync_indexes(private, segment)
        return recovered.next_offset, True
