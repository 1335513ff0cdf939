"""The log of one partition: batches in, runs of file bytes out.

Offsets that it keeps:

    log start offset  the first that can be read; retention and DeleteRecords move it up
    recovery point    everything below is on the disk
    log end offset    the next record gets it

Invariants: log start offset <= log end offset; recovery point <= log end offset; a batch, once written, changes only by
truncation from the end, deletion of whole segments from the start, or compaction.

A log belongs to the event loop's thread, except while it is being opened. What waits for the disk is handed to a worker
(`Flush`, `ColdRead`, deletion of files). When the disk fails, the log is offline: each call raises StorageError, and
whoever gave `on_failure` is told once.

Source: `UnifiedLog` and `LocalLog` of Apache Kafka 4.3.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import StorageError
from barnabas.log.assignment import assign_offsets, check_from_leader
from barnabas.log.end_marker import read_end_marker
from barnabas.log.flush import Flush
from barnabas.log.leader_epochs import FILE_NAME as LEADER_EPOCHS_FILE_NAME
from barnabas.log.loading import load_log
from barnabas.log.local_log import ReadResult
from barnabas.log.origin import Origin
from barnabas.log.producer_state import ProducerSettings, ProducerState
from barnabas.log.tracked_log import TrackedLog
from barnabas.log.transaction_index import AbortedTransaction
from barnabas.records.batch import (
    LENGTH_END,
    BatchHeader,
    set_base_offset_and_epoch,
    set_log_append_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from barnabas.clock import Clock
    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Files
    from barnabas.log.loading import LoadedLog
    from barnabas.log.producer_entry import VerificationGuard

__all__ = ["AppendResult", "Flush", "Origin", "PartitionLog", "ReadResult"]

logger = logging.getLogger(__name__)

NO_TOPIC_ID = bytes(16)
_new = tuple.__new__


class AppendResult(NamedTuple):
    """Where batches went.

    `log_append_time_ms` is -1 if the records keep their producer's timestamps. `duplicate` says that the batch had been
    appended before, and that offsets and timestamp are those of that time.
    """

    first_offset: int
    last_offset: int
    log_append_time_ms: int
    log_start_offset: int
    duplicate: bool = False


class PartitionLog(TrackedLog):
    """The log of one partition; see the module. Made by `PartitionLog.open`.

    Attributes:
        topic: the topic's name.
        partition: the partition's number.
        topic_id: 16 bytes.

    The others are those of `LocalLog` and `TrackedLog`.
    """

    __slots__ = (
        "partition",
        "topic",
        "topic_id",
    )

    def __init__(
        self,
        directory: Path,
        config: LogConfig,
        files: Files,
        clock: Clock,
        loaded: LoadedLog,
        producers: ProducerState,
        *,
        topic: str,
        partition: int,
        topic_id: bytes,
        schedule_deletion: Callable[[list[Path], int], None] | None,
        on_failure: Callable[[PartitionLog, StorageError], None] | None,
    ) -> None:
        super().__init__(
            f"{topic}-{partition}",
            directory,
            config,
            files,
            clock,
            loaded,
            producers,
            schedule_deletion=schedule_deletion,
            on_failure=on_failure,
        )
        self.topic = topic
        self.partition = partition
        self.topic_id = topic_id

    @classmethod
    def open(
        cls,
        directory: Path,
        config: LogConfig,
        files: Files,
        clock: Clock,
        *,
        topic: str,
        partition: int,
        clean: bool,
        topic_id: bytes = NO_TOPIC_ID,
        recovery_point: int = 0,
        log_start_offset: int = 0,
        producer_settings: ProducerSettings | None = None,
        schedule_deletion: Callable[[list[Path], int], None] | None = None,
        on_failure: Callable[[PartitionLog, StorageError], None] | None = None,
    ) -> PartitionLog:
        """The log in `directory`, which exists; an empty one gets its first segment. May run in a worker thread.

        Args:
            directory: the partition's.
            config: the topic's settings; `log.config` may be set anew at any time.
            files: the file system.
            clock: the time.
            topic: the topic's name.
            partition: the partition's number.
            clean: whether the last shutdown was clean; then no batch is read now. Otherwise the log is recovered from
                `recovery_point` on.
            topic_id: 16 bytes.
            recovery_point: from the checkpoint of that name; after a clean shutdown it is the log end offset.
            log_start_offset: from the checkpoint of that name.
            producer_settings: shared by all logs.
            schedule_deletion: is given files that are out of use, and the milliseconds after which they are to be
                deleted in a worker thread; without it they are deleted at once.
            on_failure: is told, once, when the log goes offline.

        Raises:
            StorageError: the disk failed, or files are damaged beyond repair.
        """
        producers = ProducerState(
            directory, files, producer_settings or ProducerSettings(), topic_partition=f"{topic}-{partition}"
        )
        try:
            loaded = load_log(
                files,
                directory,
                config,
                producers,
                recovery_point=recovery_point,
                log_start_offset=log_start_offset,
                clean=clean,
                now_ms=clock.now_ms(),
            )
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"cannot load the log in {directory}: {error}") from error
        return cls(
            directory,
            config,
            files,
            clock,
            loaded,
            producers,
            topic=topic,
            partition=partition,
            topic_id=topic_id,
            schedule_deletion=schedule_deletion,
            on_failure=on_failure,
        )

    # ----- appending

    def append(
        self,
        records: bytearray | memoryview,
        headers: Sequence[BatchHeader],
        *,
        leader_epoch: int,
        now_ms: int,
        origin: Origin = Origin.CLIENT,
        guard: VerificationGuard | None = None,
        transaction_version: int = 0,
    ) -> AppendResult:
        """Appends batches as the leader: gives them offsets, in place, and writes them in one write.

        Args:
            records: whole batches, validated; a writable buffer, of which bytes after the last batch are left out.
            headers: of each batch.
            leader_epoch: goes into the batches.
            now_ms: the wall clock.
            origin: who appends, which decides how much is checked.
            guard: of a verified transaction (`ProducerState.begin_verification`).
            transaction_version: the feature level under which an end marker was sent.

        Raises:
            KafkaError: the producer state refuses a batch; nothing was appended.
            StorageError: the disk failed, and the log is offline; nothing of the batches counts as appended.
        """
        if len(headers) == 1:
            header = headers[0]
            size = header.batch_length + LENGTH_END
            if size != len(records):
                records = memoryview(records)[:size]
            return self.append_one(
                records, size, header, leader_epoch, now_ms, origin, guard, transaction_version
            )
        self._check_online()
        try:
            self._prepare_append()
            first_offset = self.log_end_offset
            append_time_ms = now_ms if self.produce_limits.log_append_time else -1
            for header in headers:
                if header.producer_id >= 0:
                    self._producers.check(header, origin)
            headers = assign_offsets(records, headers, first_offset, leader_epoch, append_time_ms)
            size = sum(header.batch_length + LENGTH_END for header in headers)
            if size != len(records):
                records = memoryview(records)[:size]
            last_offset = headers[-1].last_offset
            max_timestamp_ms = max(header.max_timestamp for header in headers)
            if self._active.should_roll(size, max_timestamp_ms, last_offset, now_ms):
                self._roll(first_offset, now_ms)
            self._active.append(records, size, headers, first_offset, now_ms)
            self.log_end_offset = last_offset + 1
            if leader_epoch != self._latest_epoch:
                self.assign_leader_epoch(leader_epoch, first_offset)
            self._update_producers(records, headers, first_offset)
        except OSError as error:
            raise self.fail(error) from error
        return AppendResult(first_offset, last_offset, append_time_ms, self.log_start_offset)

    def append_one(
        self,
        records: bytearray | memoryview,
        size: int,
        header: BatchHeader,
        leader_epoch: int,
        now_ms: int,
        origin: Origin = Origin.CLIENT,
        guard: VerificationGuard | None = None,
        transaction_version: int = 0,
    ) -> AppendResult:
        """As `append`, for one batch that is all of `records`, which are `size` bytes: the usual case, kept short."""
        if self._failure is not None:
            raise self._failure
        active = self._active
        try:
            if not active.end_is_loaded:
                self._load_end()
            if not self._producers_are_loaded:
                self._load_producers()
            first_offset = self.log_end_offset
            last_offset = first_offset + header.last_offset_delta
            max_timestamp_ms = header.max_timestamp
            append_time_ms = -1
            has_producer = header.producer_id >= 0
            if has_producer:
                duplicate = self._producers.check(
                    header,
                    origin,
                    marker=read_end_marker(header, records) if header.is_control else None,
                    guard=guard,
                    transaction_version=transaction_version,
                )
                if duplicate is not None:
                    return AppendResult(
                        duplicate.first_offset,
                        duplicate.last_offset,
                        # Whatever its type, Kafka answers the timestamp of the first time.
                        duplicate.timestamp_ms,
                        self.log_start_offset,
                        True,
                    )
            if self.produce_limits.log_append_time:
                append_time_ms = max_timestamp_ms = now_ms
                set_log_append_time(records, 0, now_ms)
                header = header._replace(max_timestamp=now_ms)
            set_base_offset_and_epoch(records, 0, first_offset, leader_epoch)
            if not active.append_if_sure(records, size, last_offset, max_timestamp_ms, now_ms):
                if active.should_roll(size, max_timestamp_ms, last_offset, now_ms):
                    self._roll(first_offset, now_ms)
                    active = self._active
                active.append(records, size, (header,), first_offset, now_ms)
            self.log_end_offset = last_offset + 1
            if leader_epoch != self._latest_epoch:
                self.assign_leader_epoch(leader_epoch, first_offset)
            if has_producer:
                self._update_producers(records, (header,), first_offset)
        except OSError as error:
            raise self.fail(error) from error
        return _new(AppendResult, (first_offset, last_offset, append_time_ms, self.log_start_offset, False))

    def append_as_follower(self, records: bytes | bytearray | memoryview) -> AppendResult | None:
        """Appends batches of the leader with the offsets and epochs that they have; an unfinished last one is left out.

        Returns:
            None if there is no whole batch.

        Raises:
            KafkaError: CORRUPT_MESSAGE, or OFFSET_OUT_OF_RANGE for offsets that do not rise from the log end.
            StorageError: the write failed; nothing was appended, the log is offline.
        """
        self._check_online()
        headers, size = check_from_leader(records, self.log_end_offset, self._name)
        if not headers:
            return None
        try:
            self._append_stored(memoryview(records)[:size], size, headers)
        except OSError as error:
            raise self.fail(error) from error
        return AppendResult(headers[0].base_offset, headers[-1].last_offset, -1, self.log_start_offset)

    def _prepare_append(self) -> None:
        # What opening the log has left for the first append; `append_one` does the same, without the calls.
        self._load_end()
        if not self._producers_are_loaded:
            self._load_producers()

    def _append_stored(self, records: memoryview, size: int, headers: list[BatchHeader]) -> None:
        self._prepare_append()
        now_ms = self._clock.now_ms()
        last_offset = headers[-1].last_offset
        highest_ms = max(header.max_timestamp for header in headers)
        if self._active.should_roll(size, highest_ms, last_offset, now_ms):
            self._roll(headers[0].base_offset, now_ms)
        self._active.append(records, size, headers, None, now_ms)
        self.log_end_offset = last_offset + 1
        for header in headers:
            if header.partition_leader_epoch != self._latest_epoch:
                self.assign_leader_epoch(header.partition_leader_epoch, header.base_offset)
        self._update_producers(records, headers, None)

    def _update_producers(
        self,
        records: bytes | bytearray | memoryview,
        headers: Sequence[BatchHeader],
        first_offset: int | None,
    ) -> None:
        """Takes what was appended into the producer state; `first_offset` if a single header lacks it."""
        producers = self._producers
        position = 0
        for header in headers:
            if header.producer_id >= 0:
                base_offset = header.base_offset if first_offset is None or len(headers) > 1 else first_offset
                marker = None
                if header.is_control:
                    marker = read_end_marker(header, records[position : position + header.size_bytes])
                completed = producers.update(
                    header, base_offset, marker=marker, max_timestamp_ms=header.max_timestamp
                )
                if completed is not None and completed.is_aborted:
                    self._note_aborted(
                        AbortedTransaction(
                            completed.producer_id,
                            completed.first_offset,
                            completed.last_offset,
                            completed.last_stable_offset,
                        )
                    )
            position += header.batch_length + 12

    # ----- ending

    def close(self, *, sync: bool = True) -> None:
        """Leaves the directory as a clean restart wants it: indexes, epochs and producers written. Raises StorageError.

        Args:
            sync: whether to wait until all of it is on the disk, without which no clean shutdown may be claimed.
        """
        if self._failure is not None:
            self.retire()
            return
        try:
            self._write_closing_files()
            if sync:
                flush = self._flush_of_all()
                if flush is not None:
                    self._run_flush(flush)
            elif self._epochs is not None and self._epochs.is_dirty:
                path = self.directory / LEADER_EPOCHS_FILE_NAME
                self._files.replace_file(path, self._epochs.encode(), sync=False)
                self._epochs.is_dirty = False
        except OSError as error:
            raise self.fail(error) from error
        finally:
            self.retire()

    def start_close(self) -> Flush | None:
        """The first half of `close` for who closes many logs at once: writes, and gives what is to be synced; None if nothing is.

        It is synced with the whole file system (`run_together`), for which no file is kept open. `finish_close` is to follow, after
        a failure, too.

        Raises:
            StorageError: the disk failed; the log is closed.
        """
        if self._failure is not None:
            return None
        try:
            self._write_closing_files()
            flush = self._flush_of_all()
        except OSError as error:
            self.retire()
            raise self.fail(error) from error
        if flush is not None:
            self._flushes.let_go(flush)
        return flush

    def finish_close(self, flush: Flush | None) -> None:
        """The second half: what `start_close` gave was synced, or was not."""
        if flush is not None:
            self.finish_flush(flush)
        self.retire()

    def _write_closing_files(self) -> None:
        self._active.write_indexes()
        if self._config.preallocate:
            self._give_back_room()
        if self._producers_are_loaded:
            self._producers.map_end_offset = self.log_end_offset
            self._take_snapshot()
