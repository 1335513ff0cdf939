"""A log that knows its producers and leader epochs, and keeps them in step with the segments.

Builds on `LocalLog`; `PartitionLog` adds the appends. Here: rolling, flushing, deleting, truncating, and what is told
about producers and epochs. Both are loaded on first use.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from barnabas.errors import DiskFullError, ErrorCode, KafkaError, StorageError
from barnabas.log.cleaning.assessment import Dirtiness, assess
from barnabas.log.file_names import CLEANED_SUFFIX, SWAP_SUFFIX, segment_file_name
from barnabas.log.files import Entry
from barnabas.log.flush import Flush, FlushState
from barnabas.log.leader_epochs import FILE_NAME as LEADER_EPOCHS_FILE_NAME
from barnabas.log.leader_epochs import LeaderEpochs
from barnabas.log.local_log import LocalLog
from barnabas.log.recovery import reload_producers
from barnabas.log.retention import count_below_start, count_deletable
from barnabas.log.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from barnabas.clock import Clock
    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Files
    from barnabas.log.loading import LoadedLog
    from barnabas.log.producer_state import ProducerState

__all__ = ["TrackedLog"]

logger = logging.getLogger(__name__)

SNAPSHOT_INTERVAL_BYTES = 64 << 20
"""How much of the active segment may be appended and flushed until another snapshot of the producers is taken, so that
recovery need not read more."""


class TrackedLog(LocalLog):
    """The segments of one partition, its producers and leader epochs; see the module.

    Attributes:
        high_watermark: as far as replication keeps it here, else None, which stands for the log end offset: nothing
            above it is deleted.
        last_flushed_ms: when the recovery point last moved up, by the monotonic clock.
        cleaned_offset: up to where the log was compacted, None if it never was.
        truncation_count: how often its end was dropped; a copy of it made before may hold other batches at the same offsets.
    """

    __slots__ = (
        "_epochs",
        "_flushes",
        "_latest_epoch",
        "_producers",
        "_producers_are_loaded",
        "cleaned_offset",
        "high_watermark",
        "last_flushed_ms",
        "truncation_count",
    )

    def __init__(
        self,
        name: str,
        directory: Path,
        config: LogConfig,
        files: Files,
        clock: Clock,
        loaded: LoadedLog,
        producers: ProducerState,
        *,
        schedule_deletion: Callable[[list[Path], int], None] | None,
        on_failure: Callable[[Any, StorageError], None] | None,
    ) -> None:
        super().__init__(
            name,
            directory,
            config,
            files,
            clock,
            loaded,
            schedule_deletion=schedule_deletion,
            on_failure=on_failure,
        )
        self.high_watermark: int | None = None
        self.cleaned_offset: int | None = None
        self.truncation_count = 0
        self.last_flushed_ms = clock.monotonic_ms()
        self._producers = producers
        self._producers_are_loaded = loaded.producers_are_loaded
        self._epochs: LeaderEpochs | None = loaded.epochs
        self._latest_epoch: int | None = None
        self._flushes = FlushState(files, None if loaded.is_repaired else loaded.log_end_offset)

    # ----- moving to another directory

    def move_to(self, directory: Path) -> None:
        """The log's directory has this name from now on; no flush may be under way."""
        super().move_to(directory)
        self._producers.directory = directory
        self._flushes.move_to(directory)

    def encoded_epochs(self) -> bytes:
        """The leader epochs as the content of their file."""
        return self._load_epochs().encode()

    def take_over(self, other: TrackedLog) -> None:
        """Takes over from the log that this one is a copy of, up to its end, whatever is not in the batches."""
        self.config = other.config
        self.raise_log_start_offset(other.log_start_offset)
        self.high_watermark = other.high_watermark
        epochs = LeaderEpochs()
        for epoch, start_offset in other._load_epochs().entries():
            epochs.assign(epoch, start_offset)
        epochs.is_dirty = True
        self._epochs = epochs
        self._latest_epoch = None
        if other._producers_are_loaded:
            self.producer_state.take_verifications(other.producer_state)
        if self.high_watermark is not None:
            self._producers.on_high_watermark(self.high_watermark)

    # ----- rolling

    def roll(self) -> None:
        """Begins a new segment; nothing if the active one is empty."""
        self._check_online()
        try:
            self._load_end()
            if self._active.size:
                self._roll(self.log_end_offset, self._clock.now_ms())
        except OSError as error:
            raise self.fail(error) from error

    def _roll(self, base_offset: int, now_ms: int) -> None:
        if not self._producers_are_loaded:
            self._load_producers()
        closed = self._active
        self._add_segment(base_offset, now_ms)
        self._flushes.on_new_segment()
        self._flushes.on_closed_segment(closed)
        # A snapshot where a segment begins lets recovery begin there too.
        self._producers.map_end_offset = base_offset
        self._take_snapshot()

    def _take_snapshot(self) -> None:
        try:
            path = self._producers.take_snapshot(sync=False)
        except DiskFullError as error:
            # The next start reads more of the log for it, and that is all.
            logger.debug("%s: the producers are not written down: %s", self._name, error)
            return
        if path is not None:
            self._flushes.on_new_file(path)

    # ----- loading on first use

    @property
    def producer_state(self) -> ProducerState:
        """The producers; loaded on first use."""
        if not self._producers_are_loaded:
            self._load_producers()
        return self._producers

    def _load_producers(self) -> None:
        end_offset = self.log_end_offset
        try:
            reload_producers(
                self._producers,
                self._segments.starting_at(self.log_start_offset),
                self.log_start_offset,
                end_offset,
                end_offset,
                self._clock.now_ms(),
            )
        except OSError as error:
            raise self.fail(error) from error
        self._producers_are_loaded = True

    def _end_is_another(self) -> None:
        # They were loaded up to the end that was believed.
        self._producers_are_loaded = False
        self._epochs = self._latest_epoch = None
        super()._end_is_another()

    def _load_epochs(self) -> LeaderEpochs:
        epochs = self._epochs
        if epochs is None:
            try:
                epochs = LeaderEpochs.load(self._files, self.directory / LEADER_EPOCHS_FILE_NAME)
            except OSError as error:
                raise self.fail(error) from error
            epochs.truncate_from_end(self.log_end_offset)
            epochs.truncate_from_start(self.log_start_offset)
            self._epochs = epochs
        return epochs

    def last_stable_offset(self, high_watermark: int) -> int:
        """Where read_committed readers stop."""
        if not self._producers_are_loaded:
            self._load_producers()
        producers = self._producers
        # Transactions found in the log when it was loaded may have been settled long ago.
        producers.on_high_watermark(high_watermark)
        return producers.last_stable_offset(high_watermark)

    def on_high_watermark(self, high_watermark: int) -> None:
        """The high watermark moved."""
        self.high_watermark = high_watermark
        if self._producers.transactions.first_unstable_offset is not None:
            self._producers.on_high_watermark(high_watermark)

    # ----- timestamps and epochs

    @property
    def latest_epoch(self) -> int:
        """The newest leader epoch, -1 if there is none."""
        return self._load_epochs().latest

    def assign_leader_epoch(self, epoch: int, start_offset: int) -> None:
        """A leader of this epoch begins at `start_offset`."""
        epochs = self._load_epochs()
        epochs.assign(epoch, start_offset)
        self._latest_epoch = epoch

    def epoch_end_offset(self, epoch: int, current_leader_epoch: int | None = None) -> tuple[int, int]:
        """The largest known epoch up to `epoch`, and its end offset; (-1, -1) if the log knows none.

        `current_leader_epoch` ends at the log end, also while it has no records.
        """
        if epoch == current_leader_epoch:
            return epoch, self.log_end_offset
        return self._load_epochs().end_offset(epoch, self.log_end_offset)

    def epoch_for_offset(self, offset: int) -> int | None:
        """The epoch to which the record at `offset` belongs, None if unknown."""
        return self._load_epochs().epoch_for_offset(offset)

    # ----- flushing

    @property
    def flush_due(self) -> bool:
        """Whether `flush.messages` asks for a flush."""
        return self.log_end_offset - self.recovery_point >= self._config.flush_messages

    @property
    def has_unsynced_cut(self) -> bool:
        """Whether records were truncated away that may come back when the power fails; nothing is to be appended before a flush.

        The disk may have old sectors at the place of new ones: batches that were dropped would be found, with a good checksum,
        before ones that were not.
        """
        return self._flushes.has_unsynced_cut

    def start_flush(self, up_to: int | None = None) -> Flush | None:
        """What has to be synced so that everything below `up_to` (the log end) is safe; None if it is.

        A flush covers whole segments; for the active one, that is everything up to now. After a truncation it covers them all, with
        the removal of others. See `Flush` for what to do with it.

        Raises:
            StorageError: a file cannot be opened, or the log is offline.
        """
        self._check_online()
        if self._flushes.has_unsynced_cut:
            up_to = None
        elif min(self.log_end_offset if up_to is None else up_to, self.log_end_offset) <= self.recovery_point:
            return None
        flush = self._flushes.begin(self.log_end_offset)
        try:
            self._flushes.add_segments(flush, self._segments, self.recovery_point, up_to)
            self._limit_recovery()
        except OSError as error:
            self._flushes.finish(flush)
            raise self.fail(error) from error
        self._add_epochs(flush)
        self._flushes.add_files(flush, self.directory)
        return flush

    def _add_epochs(self, flush: Flush) -> None:
        if self._epochs is not None and self._epochs.is_dirty:
            flush.epochs = (self.directory / LEADER_EPOCHS_FILE_NAME, self._epochs.encode())
            self._epochs.is_dirty = False

    def _limit_recovery(self) -> None:
        """Once so many bytes were flushed, sees to it that recovery would not begin before them."""
        active = self._active
        if (
            active.size - self._flushes.snapshot_position < SNAPSHOT_INTERVAL_BYTES
            or not self._producers_are_loaded
        ):
            return
        try:
            active.offset_index.entries.write()
            active.time_index.entries.write()
        except DiskFullError as error:
            logger.debug("%s: the indexes are not written yet: %s", self._name, error)
            return
        before = self._producers.latest_snapshot_offset
        self._producers.map_end_offset = self.log_end_offset
        self._take_snapshot()
        if before is not None and before > active.base_offset and before != self.log_end_offset:
            self._producers.delete_snapshot(before)
        self._flushes.snapshot_position = active.size

    def finish_flush(self, flush: Flush) -> None:
        """Ends a flush, done or failed. After a failure the log is to be taken offline (`fail`)."""
        may_advance = self._flushes.finish(flush)
        if not flush.is_done:
            if flush.epochs is not None and self._epochs is not None:
                self._epochs.is_dirty = True
            return
        self.last_flushed_ms = self._clock.monotonic_ms()
        if may_advance and flush.offset > self.recovery_point:
            self.recovery_point = flush.offset

    def flush(self, up_to: int | None = None) -> None:
        """A whole flush, waiting for the disk; raises StorageError."""
        flush = self.start_flush(up_to)
        if flush is not None:
            self._run_flush(flush)

    def _run_flush(self, flush: Flush) -> None:
        try:
            flush.run()
        except OSError as error:
            raise self.fail(error) from error
        finally:
            self.finish_flush(flush)

    # ----- deleting and truncating

    def delete_records(self, offset: int) -> None:
        """Makes everything below `offset` unreadable, and deletes the segments that lie below as a whole.

        Raises:
            KafkaError: OFFSET_OUT_OF_RANGE, above the high watermark.
            StorageError: the disk failed.
        """
        self._check_online()
        limit = self.log_end_offset if self.high_watermark is None else self.high_watermark
        if offset > limit:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {offset} of {self._name} is above the high watermark {limit}",
            )
        try:
            self.raise_log_start_offset(offset)
            self._delete_oldest(
                count_below_start(self._segments.in_order, self.log_start_offset),
                f"the log start offset is {self.log_start_offset}",
            )
        except OSError as error:
            raise self.fail(error) from error

    def raise_log_start_offset(self, offset: int) -> None:
        """Moves the log start offset up to `offset`; nothing if it is there already."""
        if offset <= self.log_start_offset:
            return
        self.log_start_offset = offset
        self._load_epochs().truncate_from_start(offset)
        if self._producers_are_loaded:
            self._producers.on_log_start_offset(offset)

    def apply_retention(self, now_ms: int) -> int:
        """Deletes the segments that the settings allow to; returns how many. Raises StorageError."""
        self._check_online()
        try:
            segments = self._segments.in_order
            high_watermark = self.log_end_offset if self.high_watermark is None else self.high_watermark
            count = count_deletable(
                segments,
                self._config,
                log_start_offset=self.log_start_offset,
                log_end_offset=self.log_end_offset,
                high_watermark=high_watermark,
                now_ms=now_ms,
            )
            if count == 0:
                return 0
            if count == len(segments):
                self._load_end()
                self._roll(self.log_end_offset, now_ms)
            self._delete_oldest(count, "retention")
        except OSError as error:
            raise self.fail(error) from error
        return count

    def _delete_oldest(self, count: int, reason: str) -> None:
        if count == 0:
            return
        removed = self._segments.remove_oldest(count)
        logger.info("%s: deleting the segments %s (%s)", self._name, _list_bases(removed), reason)
        self.raise_log_start_offset(self._segments.first.base_offset)
        self._delete_with_snapshots(removed)

    def assess_dirtiness(self, now_ms: int) -> Dirtiness:
        """What there is to compact. Raises StorageError."""
        self._check_online()
        high_watermark = self.log_end_offset if self.high_watermark is None else self.high_watermark
        try:
            return assess(
                self._segments.in_order,
                self._config,
                cleaned_offset=self.cleaned_offset,
                log_start_offset=self.log_start_offset,
                log_end_offset=self.log_end_offset,
                stable_offset=min(self.last_stable_offset(high_watermark), self.recovery_point),
                now_ms=now_ms,
            )
        except OSError as error:
            raise self.fail(error) from error

    def replace_segments(self, removed: list[Segment], sizes: dict[str, int]) -> bool:
        """Puts the result of a compaction in the place of the segments that it was made of.

        The result's files lie in the directory with `.cleaned` at the end of their names, synced. As soon as they all end in
        `.swap`, a crash does not undo what happens here (`leftovers.py`). Whoever is being sent from the old files goes on
        undisturbed. The directory is to be synced afterwards.

        Args:
            removed: the segments; they follow each other, and the active one is not among them.
            sizes: the new files' sizes by suffix (`.log` and so on).

        Returns:
            False, and nothing was changed, if the segments are not in the log any more.

        Raises:
            DiskFullError: there is no room for a name; nothing was changed.
            StorageError: the disk failed, and the log is offline.
        """
        self._check_online()
        if not self._segments.hold(removed):
            return False
        base_offset = removed[0].base_offset
        modified_ms = removed[-1].modified_ms
        names = {suffix: segment_file_name(base_offset, suffix) for suffix in sizes}
        added = Segment.open(
            self._files,
            self.directory,
            base_offset,
            entries={
                suffix: Entry(names[suffix], size, modified_ms, False) for suffix, size in sizes.items()
            },
            now_ms=self._clock.now_ms(),
        )
        self._configure(added)
        try:
            for name in names.values():
                self._files.rename(
                    self.directory / (name + CLEANED_SUFFIX), self.directory / (name + SWAP_SUFFIX)
                )
        except OSError as error:
            # On a full disk nothing has happened yet: with one left that ends in `.cleaned` a start deletes them all.
            raise self.fail(error) from error
        self._segments.replace_some(removed, added)
        try:
            snapshots = [self._producers.forget_snapshot(segment.base_offset) for segment in removed[1:]]
            self._delete_files(removed, [path for path in snapshots if path is not None])
            for name in names.values():
                self._files.rename(self.directory / (name + SWAP_SUFFIX), self.directory / name)
        except OSError as error:
            # Also for want of room: the files are neither the old ones nor the new ones. The next start makes them so.
            raise self.fail(StorageError(f"{self.directory} is half-way replaced: {error}")) from error
        self._flushes.on_replaced_segments()
        return True

    def _delete_with_snapshots(self, removed: list[Segment]) -> None:
        snapshots = [self._producers.forget_snapshot(segment.base_offset) for segment in removed]
        self._delete_files(removed, [path for path in snapshots if path is not None])

    def truncate_to(self, offset: int) -> bool:
        """Drops every batch that holds `offset` or a later one; False if there was none.

        A leader epoch that begins at `offset` or later is dropped in any case. See `has_unsynced_cut` for what has to come before the
        next append. Raises StorageError.
        """
        self._check_online()
        try:
            self._load_end()
            self._load_epochs().truncate_from_end(offset)
            self._latest_epoch = None
            if offset >= self.log_end_offset:
                return False
            logger.info("%s: truncating from offset %d to %d", self._name, self.log_end_offset, offset)
            if offset < self._segments.first.base_offset:
                self._start_over_at(offset)
                return True
            self.truncation_count += 1
            if self._producers_are_loaded:
                # What they know reaches to the end, whichever offset they were last loaded or saved at.
                self._producers.map_end_offset = self.log_end_offset
            removed = self._segments.remove_after(offset)
            self._active = self._segments.active
            self._configure(self._active)
            end_offset = self._active.truncate_to(offset)
            self._delete_with_snapshots(removed)
            self.log_end_offset = end_offset
            self.recovery_point = min(self.recovery_point, end_offset)
            self.log_start_offset = min(self.log_start_offset, end_offset)
            if self.high_watermark is not None:
                self.high_watermark = min(self.high_watermark, end_offset)
            if self.cleaned_offset is not None:
                self.cleaned_offset = min(self.cleaned_offset, end_offset)
            self._load_epochs().truncate_from_end(end_offset)
            self._flushes.on_truncation(self._active.size)
            self._producers_are_loaded = False
            self._load_producers()
        except OSError as error:
            raise self.fail(error) from error
        return True

    def truncate_fully_and_start_at(self, offset: int, log_start_offset: int | None = None) -> None:
        """Drops everything; the log goes on at `offset`. Raises StorageError."""
        self._check_online()
        try:
            self._start_over_at(offset, log_start_offset)
        except OSError as error:
            raise self.fail(error) from error

    def _start_over_at(self, offset: int, log_start_offset: int | None = None) -> None:
        logger.info("%s: dropping all segments, starting over at offset %d", self._name, offset)
        self.truncation_count += 1
        # The old files go first: one of them may have the name of the new one.
        removed = list(self._segments)
        self._delete_with_snapshots(removed)
        segment = Segment.create(self._files, self.directory, offset, now_ms=self._clock.now_ms())
        self._configure(segment)
        self._segments.replace_all(segment)
        self._active = segment
        self._has_aborted = False
        self._flushes.on_truncation(0, removed_records=any(each.size for each in removed))
        self._flushes.on_new_segment()
        self.log_end_offset = offset
        self.log_start_offset = offset if log_start_offset is None else log_start_offset
        self.recovery_point = min(self.recovery_point, offset)
        if self.high_watermark is not None:
            self.high_watermark = min(self.high_watermark, offset)
        self.cleaned_offset = None
        self._load_epochs().clear()
        self._latest_epoch = None
        self._producers.truncate_fully_and_start_at(offset)
        self._producers_are_loaded = True

    def _flush_of_all(self) -> Flush | None:
        if self._flushes.is_untouched(self.log_end_offset) and not (self._epochs and self._epochs.is_dirty):
            return None
        flush = self.start_flush() or self._flushes.begin(self.log_end_offset)
        if not self._flushes.is_untouched(self.log_end_offset):
            flush.paths.append(self._active.offset_index.entries.file.path)
            flush.paths.append(self._active.time_index.entries.file.path)
        self._add_epochs(flush)
        self._flushes.add_files(flush, self.directory)
        flush.directory = self.directory
        return flush


def _list_bases(segments: list[Segment]) -> str:
    return ", ".join(str(segment.base_offset) for segment in segments)
