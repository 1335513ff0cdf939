"""Moves replicas between the log directories of this broker (KIP-113), while they are written and read.

A copy is made in worker threads, at most so fast as `replica.alter.log.dirs.io.max.bytes.per.second` allows. When it has caught
up it takes the place of the log. That the move loses nothing, whenever the broker dies:

    0   the log's own directory is brought to the disk: a copy may be found beside the log, but never without it
    1   nobody who waits for the disk is answered any more; the copy catches up, and is brought to the disk
    2   the metadata names the new directory; until the copy has its name there, the old one still counts
    3   in one turn of the loop: the last batches are taken over, the copy gets the partition's name, and appends go to it
    4   whoever waits, waits for the copy and for its name to be on the disk; then the old directory is deleted

A process that dies before 3 finds the log in the old directory, and begins the move anew; after it, in the new one. Power that
fails in between finds both names or one of them: what was acknowledged by then is in both.

Source: `ReplicaAlterLogDirsThread` and `Partition.maybeReplaceCurrentWithFutureReplica` of Apache Kafka 4.3; the order of the
steps is our own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, TypeVar

from barnabas.errors import ErrorCode, KafkaError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from barnabas.config.broker import BrokerConfig
    from barnabas.log.future_log import FutureLog
    from barnabas.log.group_commit import GroupCommit
    from barnabas.log.log_directories import LogDirectories
    from barnabas.log.log_directory import LogDirectory
    from barnabas.log.partition_log import PartitionLog
    from barnabas.replication.partition import Partition
    from barnabas.replication.replicas import Replicas

    Assign = Callable[[Mapping[tuple[bytes, int], bytes]], asyncio.Future[None]]

__all__ = ["DirectoryMoves"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_NAME_LENGTH_MAX = 255
_FUTURE_NAME_EXTRA = len(f"-.{'0' * 32}-future")
_CHUNK_BYTES = 4 << 20
_CATCH_UP_BYTES = 1 << 20
_LITTLE_BYTES = 1 << 16
_PATIENCE = 100
_MUCH_BYTES = 16 << 20
"""A log that grows so fast that its copy is never quite there is switched when no more than this is left."""
_SLICE_S = 0.25


class _Move:
    """One move under way."""

    __slots__ = ("future", "partition", "task", "truncation_count")

    def __init__(self, partition: Partition, future: FutureLog) -> None:
        self.partition = partition
        self.future = future
        self.task: asyncio.Task[None] | None = None
        self.truncation_count = 0

    @property
    def is_switched(self) -> bool:
        """Whether the copy has taken the place of the log, whose directory is still to go."""
        return self.future.hosted.log is not None


class DirectoryMoves:
    """All moves of one broker; see the module.

    Args:
        log_directories: Where the logs lie.
        replicas: The partitions that they belong to.
        group_commit: Answers whoever waits for the disk.
        config: For the throttle and the number of moves at once; both may change.
        loop: The event loop.
        assign: Tells the metadata in which directory this broker keeps replicas: directory ids by topic id and partition.
        check_room: Raises KafkaError while no more changes of the metadata are taken, but for those that undo one.
    """

    __slots__ = (
        "_assign",
        "_check_room",
        "_config",
        "_directories",
        "_group_commit",
        "_is_closed",
        "_loop",
        "_moves",
        "_next_s",
        "_replicas",
        "_slots",
    )

    def __init__(
        self,
        *,
        log_directories: LogDirectories,
        replicas: Replicas,
        group_commit: GroupCommit,
        config: BrokerConfig,
        loop: asyncio.AbstractEventLoop,
        assign: Assign,
        check_room: Callable[[], None],
    ) -> None:
        self._directories = log_directories
        self._replicas = replicas
        self._group_commit = group_commit
        self._config = config
        self._loop = loop
        self._assign = assign
        self._check_room = check_room
        self._moves: dict[tuple[str, int], _Move] = {}
        self._next_s = 0.0
        self._is_closed = False
        threads = config["num.replica.alter.log.dirs.threads"]
        self._slots = asyncio.Semaphore(threads or len(log_directories.directories))

    # ----- beginning and ending

    def request(self, topic: str, index: int, path: str) -> None:
        """Begins to move a replica to the log directory `path`; one that is there already, or on its way, is left alone.

        A move to another directory that is under way is given up.

        Raises:
            KafkaError: INVALID_TOPIC_EXCEPTION for a name that leaves no room for the copy's, LOG_DIR_NOT_FOUND,
                KAFKA_STORAGE_ERROR, UNKNOWN_TOPIC_OR_PARTITION.
        """
        if len(topic) + len(str(index)) + _FUTURE_NAME_EXTRA > _NAME_LENGTH_MAX:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "The topic name is too long.")
        directory = self._directories.directory_at(path)
        partition = self._replicas.get(topic, index)
        if partition is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        move = self._moves.get((topic, index))
        if move is not None:
            if move.future.hosted.directory is directory:
                return
            self.cancel(topic, index)
        try:
            self._begin(partition, directory)
        except StorageError as error:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error

    def resume(self) -> None:
        """Begins anew what a stop or a crash of the broker has interrupted."""
        for topic, index, directory in self._directories.unfinished_moves():
            partition = self._replicas.get(topic, index)
            if partition is None:
                continue
            try:
                self._begin(partition, directory)
            except StorageError as error:
                logger.warning("move is not resumed log=%s-%d reason=%s", topic, index, error)

    def _begin(self, partition: Partition, directory: LogDirectory) -> None:
        key = (partition.topic, partition.index)
        partition.log  # noqa: B018 - begun or opened now, if it was not
        hosted = self._directories.hosted_log(*key)
        if hosted is None or hosted.directory is directory:
            return
        if hosted.directory.is_offline:
            raise StorageError(f"{hosted.directory.path} is offline")
        former = self._moves.get(key)
        move = _Move(partition, self._directories.add_future(hosted, directory))
        if former is None and self._directories.entry_sync(hosted) is None:
            self._directories.begin_future(
                move.future
            )  # so that a broker that is killed now knows of the move
        self._moves[key] = move
        move.task = self._loop.create_task(
            self._run(move, former.task if former is not None else None),
            name=f"move of {partition.topic}-{partition.index}",
        )
        logger.info("replica moves log=%s-%d from=%s to=%s", *key, hosted.directory.path, directory.path)

    def cancel(self, topic: str, index: int) -> None:
        """Gives a move up, if there is one; the replica stays where it is."""
        move = self._moves.get((topic, index))
        if move is not None and move.task is not None and not move.is_switched:
            del self._moves[topic, index]
            move.task.cancel()
            # At once, since another copy may be begun in the same turn; what its thread still writes is deleted with it.
            if self._directories.futures.get((topic, index)) is move.future:
                del self._directories.futures[topic, index]

    def cancel_topic(self, topic: str) -> None:
        """Gives up the moves of a topic that is deleted."""
        for name, index in list(self._moves):
            if name == topic:
                self.cancel(name, index)

    async def close(self) -> None:
        """Interrupts all moves; the next start begins them anew."""
        moves = list(self._moves.values())
        self._moves.clear()
        self._is_closed = True
        for move in moves:
            if move.task is not None and not move.is_switched:
                move.task.cancel()
        await asyncio.gather(*(move.task for move in moves if move.task is not None), return_exceptions=True)

    # ----- a move

    async def _run(self, move: _Move, before: asyncio.Task[None] | None) -> None:
        future, partition = move.future, move.partition
        name = f"{partition.topic}-{partition.index}"
        key = (partition.topic, partition.index)
        is_done = False
        try:
            if before is not None:
                await asyncio.wait(
                    [before]
                )  # the directory that it comes from may be the one where this is to go
            if not future.is_begun:
                await self._begin_late(move)
            async with self._slots:
                await self._copy(move)
                await self._switch(move)
            is_done = True
            logger.info("replica has moved log=%s to=%s", name, future.hosted.directory.path)
        except asyncio.CancelledError:
            raise
        except (OSError, KafkaError) as error:
            logger.error("replica does not move log=%s reason=%s", name, error)  # noqa: TRY400 - it says it all
        except Exception:
            logger.exception("replica does not move log=%s", name)
        finally:
            if self._moves.get(key) is move:
                del self._moves[key]
            if not is_done and future.hosted.log is None:
                if not self._is_closed:
                    self._directories.drop_future(future)
                elif future.log is not None:
                    future.log.retire()

    async def _begin_late(self, move: _Move) -> None:
        """Begins the copy of a log that has to be brought to the disk first, or that has just moved here."""
        directories, future = self._directories, move.future
        hosted = directories.hosted_log(future.hosted.topic, future.hosted.partition)
        assert hosted is not None
        while (sync := directories.entry_sync(hosted)) is not None:
            await self._in_thread(sync)
        directories.begin_future(future)

    async def _copy(self, move: _Move) -> None:
        """Copies until little is left."""
        future, directories = move.future, self._directories
        source = move.partition.log
        move.truncation_count = source.truncation_count
        while True:
            source.check_online()
            plan = future.plan(source)
            if future.covers(plan):
                break
            count = await self._in_thread(future.copy_some, plan, await self._turn())
            if count == 0 and not future.covers(plan):
                await asyncio.sleep(0.01)  # a segment was just replaced; look again
            self._paid(count)
        await self._in_thread(future.sync, plan)
        future.log = await self._in_thread(directories.open_future, future, plan, source.config)
        await self._catch_up(future, source)

    async def _catch_up(self, future: FutureLog, source: PartitionLog) -> None:
        assert future.log is not None
        turns = 0
        while True:
            count = future.catch_up(source, min(_CATCH_UP_BYTES, await self._turn()))
            self._paid(count)
            turns += 1
            left = source.size_bytes - future.log.size_bytes
            if count < _LITTLE_BYTES or (turns >= _PATIENCE and left <= _MUCH_BYTES):
                return
            await asyncio.sleep(0)

    async def _in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        """As `LogDirectories.run`, but a move that is given up waits until its thread writes no more."""
        running = self._directories.run(work, *arguments)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            running.exception()  # whatever it is, nobody wants to know any more
            raise

    async def _switch(self, move: _Move) -> None:
        future, directories, partition = move.future, self._directories, move.partition
        log, source, hosted = future.log, partition.log, future.hosted
        assert log is not None
        key = (partition.topic_id, partition.index)
        former_id = directories.directory_id_of(source)
        is_assigned = False
        self._group_commit.hold(source)
        try:
            await self._catch_up(future, source)
            log.take_over(source)
            flush = log.start_flush()
            if flush is not None:
                try:
                    await self._in_thread(flush.run)
                finally:
                    log.finish_flush(flush)
            await directories.note_log_start(future)
            if hosted.directory.directory_id is not None:
                self._check_room()
                is_assigned = True
                await self._assign({key: hosted.directory.directory_id})
            # No await from here until appends go to the copy.
            source.check_online()
            if source.truncation_count != move.truncation_count:
                # By a new leader's word. The copy is compared with it by size alone, and may hold what was dropped.
                raise KafkaError(
                    ErrorCode.REPLICA_NOT_AVAILABLE, "the log was truncated meanwhile; have it moved again"
                )
            while future.catch_up(source, _CATCH_UP_BYTES):
                pass
            log.take_over(source)
            former = directories.complete_future(future)
        except BaseException:
            self._group_commit.release(source)
            if is_assigned and former_id is not None:
                with contextlib.suppress(KafkaError, StorageError):
                    self._assign({key: former_id}).add_done_callback(_heard)
            raise
        partition.replace_log(log)
        directories.retire(former)
        await directories.discard_former(former, hosted)

    # ----- the throttle

    async def _turn(self) -> int:
        """Waits until bytes may be copied again; gives how many."""
        while True:
            rate = self._config["replica.alter.log.dirs.io.max.bytes.per.second"]
            wait_s = self._next_s - self._loop.time()
            if rate > 0 and wait_s <= 0:
                return max(1, min(_CHUNK_BYTES, int(rate * _SLICE_S)))
            await asyncio.sleep(min(wait_s, _SLICE_S) if rate > 0 else _SLICE_S)

    def _paid(self, count: int) -> None:
        rate = self._config["replica.alter.log.dirs.io.max.bytes.per.second"]
        if rate > 0:
            self._next_s = max(self._next_s, self._loop.time()) + count / rate


def _heard(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and done.exception() is not None:
        logger.warning("the metadata is not told that a replica stays reason=%s", done.exception())
