"""The metadata log of a single node, in local files: nothing to install, nobody to ask.

    append ──┐                    ┌─ worker: sync ─┐
    append ──┼─ end of loop tick ─┤                ├─ loop: the listener is told, futures are resolved
    append ──┘    one write       └────────────────┘  what was appended meanwhile shares the next round

A record counts once it is on the disk, whatever `barnabas.durability` says of events: a topic that a client was told of
must not be gone after a power failure. Should the disk fail, what was not acknowledged is refused, and so is all that
comes later: after a failed sync nobody knows what is on the disk. On a full one, only what finds no room is refused.

Every start begins a new epoch. The log is that of a quorum of one voter, to the byte (see `metadata_log`).
"""

from __future__ import annotations

import asyncio
import errno
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.store.batches import encode_batch, encode_leader_change, encode_snapshot
from barnabas.controller.store.metadata_log import MetadataLog
from barnabas.errors import DiskFullError, StorageError
from barnabas.metadata.snapshot import image_records
from barnabas.wire.messages.metadata.abort_transaction_record import AbortTransactionRecord
from barnabas.wire.messages.metadata.remove_topic_record import RemoveTopicRecord
from barnabas.wire.messages.metadata.topic_record import TopicRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from barnabas.clock import Clock
    from barnabas.controller.brokers import BrokerRegistration
    from barnabas.controller.store import StoreListener
    from barnabas.controller.store.metadata_log import LoadedLog
    from barnabas.log.files import File, Files
    from barnabas.metadata.image import MetadataImage

__all__ = ["EmbeddedStore"]

logger = logging.getLogger(__name__)

_SNAPSHOT_LEAST_BYTES = 1 << 19
"""Log that is always left to be replayed at a start: some 10,000 records, a tenth of a second."""


class _Append(NamedTuple):
    records: Sequence[Any]
    batch: bytearray
    offset: int
    future: asyncio.Future[int]


class EmbeddedStore:
    """A `MetadataStore` in `directory`; see the module.

    Args:
        files: The file system.
        directory: `__cluster_metadata-0` within the metadata directory; it is created when it is missing.
        node_id: This node, the only voter.
        clock: For the time of the records.
        loop: Where futures are resolved.
        snapshot_bytes: Log after which a snapshot is taken at the latest
            (`metadata.log.max.record.bytes.between.snapshots`). A small image gets one earlier, so that a start reads
            no more log than image.
        segment_bytes: Size at which a segment is closed (`metadata.log.segment.bytes`).
        on_load: Called once the listener was told of what is in the log: what is wrong with its end, if it is damaged, and the
            topics that are known to be deleted, names by ids. It may raise StorageError; then nothing was changed.
        before_snapshot: Called when a snapshot is due, of which all listeners have heard; gives what has to be done first, in
            the worker thread: what a snapshot no longer tells, such as the deletion of a topic, must have had its effect.
    """

    __slots__ = (
        "_before_snapshot",
        "_clock",
        "_epoch",
        "_failure",
        "_has_refused",
        "_listener",
        "_log",
        "_loop",
        "_next_offset",
        "_node_id",
        "_on_load",
        "_queue",
        "_round",
        "_segment_bytes",
        "_snapshot",
        "_snapshot_bytes",
        "_threads",
        "_wants_roll",
    )

    def __init__(
        self,
        files: Files,
        directory: Path,
        *,
        node_id: int,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        snapshot_bytes: int = 20 << 20,
        segment_bytes: int = 1 << 30,
        on_load: Callable[[str | None, Mapping[bytes, str]], None] = lambda _damage, _deleted: None,
        before_snapshot: Callable[[], Callable[[], None]] = lambda: lambda: None,
    ) -> None:
        self._on_load = on_load
        self._before_snapshot = before_snapshot
        self._log = MetadataLog(files, directory)
        self._node_id = node_id
        self._clock = clock
        self._loop = loop
        self._snapshot_bytes = snapshot_bytes
        self._segment_bytes = segment_bytes
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="metadata-log")
        self._listener: StoreListener | None = None
        self._queue: list[_Append] = []
        self._round: asyncio.Future[None] | None = None
        self._snapshot: asyncio.Future[Any] | None = None
        self._failure: StorageError | None = None
        self._has_refused = False
        self._wants_roll = False
        self._next_offset = 0
        self._epoch = 0

    @property
    def next_offset(self) -> int:
        """The offset that the next record to be appended will have."""
        return self._next_offset

    async def cluster_id(self, own: str) -> str:
        """A single node is its own cluster."""
        return own

    async def open(self, listener: StoreListener) -> None:
        """Replays the log to `listener`, and leads it in a new epoch.

        Raises:
            StorageError: The log cannot be read; the message says which file and what to do.
        """
        loaded = self._log.load()
        self._listener = listener
        if loaded.snapshot:
            listener.on_snapshot(loaded.snapshot, loaded.snapshot_offset - 1, loaded.snapshot_epoch)
        if loaded.records:
            listener.on_commit(loaded.records, loaded.next_offset - 1, loaded.epoch)
        self._next_offset = loaded.next_offset
        self._epoch = loaded.epoch + 1
        try:
            self._on_load(loaded.damage, _deleted_topics(loaded))
        except StorageError:
            self._log.close()
            raise
        try:
            self._log.cut_torn_end()
            self._log.sync_found()
            self._log.begin_epoch(self._node_id, self._epoch, self._next_offset)
            now_ms = self._clock.now_ms()
            # On the disk with the first records that follow: alone it says nothing that matters.
            self._log.write(
                encode_leader_change(
                    leader_id=self._node_id,
                    base_offset=self._next_offset,
                    epoch=self._epoch,
                    timestamp_ms=now_ms,
                )
            )
            self._next_offset += 1
            if loaded.in_transaction:
                self._log.write(self._encode([AbortTransactionRecord(reason="its controller is gone")]))
                self._next_offset += 1
        except OSError as error:
            raise StorageError(
                f"cannot write the metadata log in {self._log.directory}: {error}; "
                "let this user read and write it, or mend the disk"
            ) from error
        listener.on_leadership(self._node_id, self._epoch)

    def _encode(self, records: Sequence[Any]) -> bytearray:
        return encode_batch(
            records, base_offset=self._next_offset, epoch=self._epoch, timestamp_ms=self._clock.now_ms()
        )

    # ----- the one broker

    async def register(self, registration: BrokerRegistration) -> None:
        """Tells the listener, in the same turn."""
        assert self._listener is not None, "a broker registers when the log is open"
        self._listener.on_live_brokers({registration.broker_id: registration})

    async def report_gone(self, broker_id: int, incarnation_id: bytes) -> None:
        """There are no other brokers."""

    async def unregister(self) -> None:
        """There is nobody who would have to know."""

    # ----- appending

    def append(self, records: Sequence[Any]) -> asyncio.Future[int]:
        """Appends records as one batch; the future is resolved once they are on the disk."""
        assert records, "an append without records has no offset"
        future: asyncio.Future[int] = self._loop.create_future()
        if self._failure is not None:
            self._has_refused = True
            future.set_exception(self._failure)
            return future
        batch = self._encode(records)
        self._next_offset += len(records)
        self._queue.append(_Append(records, batch, self._next_offset - 1, future))
        if self._round is None and len(self._queue) == 1:
            # Whoever appends within the same turn of the loop shares the round.
            self._loop.call_soon(self._begin_round)
        return future

    def _begin_round(self) -> None:
        if self._round is not None or not self._queue:
            return
        entries, self._queue = self._queue, []
        log = self._log
        try:
            if self._wants_roll or log.active_size > self._segment_bytes:
                self._wants_roll = False
                log.roll(entries[0].offset - len(entries[0].records) + 1)
            log.write(b"".join(entry.batch for entry in entries))
            file = log.pin()
        except DiskFullError as error:
            self._refuse(error, entries)
            return
        except OSError as error:
            self._fail(error, entries)
            return
        self._round = self._loop.run_in_executor(self._threads, log.sync, file)
        self._round.add_done_callback(lambda done: self._end_round(done, file, entries))

    def _end_round(self, done: asyncio.Future[None], file: File, entries: list[_Append]) -> None:
        self._round = None
        self._log.unpin(file)
        error = None if done.cancelled() else done.exception()
        if error is not None or done.cancelled():
            self._fail(error, entries)
            return
        log = self._log
        log.last_timestamp_ms = self._clock.now_ms()
        listener = self._listener
        assert listener is not None
        for entry in entries:
            listener.on_commit(entry.records, entry.offset, self._epoch)
            if not entry.future.done():
                entry.future.set_result(entry.offset)
        if log.is_short_of_reserve:
            log.make_reserve()
        if self._queue:
            self._begin_round()

    def _refuse(self, error: DiskFullError, entries: list[_Append]) -> None:
        """There is no room for some records: they are refused, and all that was appended after them."""
        logger.error("metadata cannot change, the disk is full path=%s reason=%s", self._log.directory, error)
        self._next_offset = entries[0].offset - len(entries[0].records) + 1
        self._wants_roll |= error.errno == errno.EFBIG  # that is the limit of a file: the next one has room
        # Until everybody has heard of it, nobody may build upon what was refused.
        self._failure = error
        self._has_refused = False
        self._answer_with(error, entries)
        self._loop.call_soon(self._go_on, error)

    def _go_on(self, error: DiskFullError) -> None:
        if self._failure is not error:
            return
        if self._has_refused:  # and whoever that was has yet to hear of it
            self._has_refused = False
            self._loop.call_soon(self._go_on, error)
        else:
            self._failure = None

    def _answer_with(self, error: StorageError, entries: list[_Append]) -> None:
        refused, self._queue = [*entries, *self._queue], []
        for entry in refused:
            if not entry.future.done():
                entry.future.set_exception(error)

    def _fail(self, error: BaseException | None, entries: list[_Append]) -> None:
        directory = self._log.directory
        failure = StorageError(
            f"the metadata log in {directory} failed, no change is possible until a restart: {error}"
        )
        self._failure = failure
        logger.error(
            "metadata log failed: events are served, but topics and settings cannot change until the disk is mended and the "
            "broker restarted path=%s reason=%s",
            directory,
            error,
        )
        self._answer_with(failure, entries)

    # ----- snapshots

    def snapshot_if_due(self, image: MetadataImage) -> None:
        """Writes the image as a snapshot, in a worker thread, when the log has grown enough since the last one."""
        log = self._log
        due = min(self._snapshot_bytes, max(_SNAPSHOT_LEAST_BYTES, log.snapshot_size))
        if self._snapshot is not None or self._failure is not None or log.size_since_snapshot < due:
            return
        replaced_bytes = log.size_since_snapshot
        prepare = self._before_snapshot()
        writing = self._loop.run_in_executor(self._threads, self._write_snapshot, image, prepare)
        writing.add_done_callback(lambda done: self._end_snapshot(done, image, replaced_bytes))
        self._snapshot = writing

    def _write_snapshot(self, image: MetadataImage, prepare: Callable[[], None]) -> int:
        prepare()
        batches = encode_snapshot(
            image_records(image),
            epoch=image.epoch,
            last_timestamp_ms=self._log.last_timestamp_ms,
            timestamp_ms=self._clock.now_ms(),
            voters=self._log.voters,
        )
        return self._log.write_snapshot(batches, image.offset + 1, image.epoch)

    def _end_snapshot(self, done: asyncio.Future[int], image: MetadataImage, replaced_bytes: int) -> None:
        self._snapshot = None
        error = None if done.cancelled() else done.exception()
        if error is not None or done.cancelled():
            # The log is whole without it; it is tried again when something is appended.
            logger.warning("metadata snapshot is not written path=%s reason=%s", self._log.directory, error)
            return
        unneeded = self._log.adopt_snapshot(image.offset + 1, image.epoch, done.result(), replaced_bytes)
        self._wants_roll = True
        logger.info("metadata snapshot is written path=%s offset=%d", self._log.directory, image.offset)
        if unneeded:
            deleting = self._loop.run_in_executor(self._threads, self._log.delete, unneeded)
            deleting.add_done_callback(self._end_deletion)
            self._snapshot = deleting

    def _end_deletion(self, done: asyncio.Future[None]) -> None:
        self._snapshot = None
        error = None if done.cancelled() else done.exception()
        if error is not None:
            logger.warning("old metadata files are not deleted path=%s reason=%s", self._log.directory, error)

    async def close(self) -> None:
        """Waits until what was appended is on the disk, and closes the files."""
        while (waiting := self._round or self._snapshot) is not None or self._queue:
            if waiting is None:
                await asyncio.sleep(0)
            else:
                await asyncio.wait([waiting])
        self._failure = StorageError(f"the metadata log in {self._log.directory} is closed")
        self._threads.shutdown()
        self._log.close()


def _deleted_topics(loaded: LoadedLog) -> dict[bytes, str]:
    names = {
        record.topic_id: record.name
        for record in (*loaded.snapshot, *loaded.records)
        if isinstance(record, TopicRecord)
    }
    return {
        record.topic_id: names.get(record.topic_id, "")
        for record in loaded.records
        if isinstance(record, RemoveTopicRecord)
    }
