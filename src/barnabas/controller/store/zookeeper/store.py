"""A `MetadataStore` in Apache ZooKeeper; see the package.

Everything that has to do with ZooKeeper happens in one task, in turns. Watches, and changes of the connection, only note what has to
be looked at in the next turn; with every new connection that is everything, because watches end with it.

When the connection is lost this node stops writing at once, though its session and its office may outlive that: what was appended
waits. When it is back, the log is read to its end, which decides what became of a transaction without an answer; the rest is written if the
office is still ours, and fails if not. Nobody is told anything while ZooKeeper is away: no leader changes, nobody is taken for dead.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from enum import Enum
from typing import TYPE_CHECKING, Any

from barnabas.controller.store.zookeeper.cluster_node import check_cluster, settle_cluster
from barnabas.controller.store.zookeeper.election import Reign, find_leader, resign
from barnabas.controller.store.zookeeper.layout import (
    HEAD,
    Leader,
    decode_head,
)
from barnabas.controller.store.zookeeper.log import Batch, LogTrimmedError, delete_beyond, read_log
from barnabas.controller.store.zookeeper.membership import Membership
from barnabas.controller.store.zookeeper.session import Session, SessionSettings
from barnabas.controller.store.zookeeper.snapshot_keeper import SNAPSHOT_CHUNKS, SnapshotKeeper
from barnabas.controller.store.zookeeper.snapshots import read_pointer, read_snapshot
from barnabas.controller.store.zookeeper.writer import Writer, not_controller, unknown_outcome
from barnabas.controller.store.zookeeper.znodes import (
    ConnectionLostError,
    SessionLostError,
    SessionState,
    ZooKeeperError,
)
from barnabas.errors import DecodeError, KafkaError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from barnabas.clock import Clock
    from barnabas.controller.brokers import BrokerRegistration
    from barnabas.controller.store import StoreListener
    from barnabas.metadata.image import MetadataImage

__all__ = ["ZooKeeperStore"]

logger = logging.getLogger(__name__)

_RETRY_S = 0.05
_RETRY_AFTER_DAMAGE_S = 2.0
_CLOSE_PATIENCE_S = 5.0
_REGISTRATION_PATIENCE = 1.5
"""How many session timeouts a broker waits for the end of its former process's session."""


class _Due(Enum):
    """What has to be looked at in the next turn."""

    CLUSTER = "cluster"
    REGISTRATION = "registration"
    CONTROLLER = "controller"
    HEAD = "head"
    BROKERS = "brokers"


class ZooKeeperStore:
    """See the module.

    Args:
        settings: How ZooKeeper is reached.
        node_id: This node.
        clock: For the time of the records.
        loop: Where everything happens.
        snapshot_bytes: Log after which a snapshot is taken at the latest
            (`metadata.log.max.record.bytes.between.snapshots`).
        append_timeout_ms: Time after which an append fails that ZooKeeper has not taken.
        machine: What names this machine; the host's name when it is empty.
        snapshot_chunks: Nodes of the log after which a snapshot is taken at the latest.
    """

    __slots__ = (
        "_cluster_id",
        "_connection",
        "_due",
        "_is_closing",
        "_listener",
        "_loop",
        "_marks",
        "_membership",
        "_node_id",
        "_opened",
        "_position",
        "_pump",
        "_registering_again",
        "_session",
        "_settings",
        "_snapshots",
        "_state",
        "_told_brokers",
        "_told_contact",
        "_told_leader",
        "_wake",
        "_writer",
    )

    def __init__(
        self,
        settings: SessionSettings,
        *,
        node_id: int,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        snapshot_bytes: int = 20 << 20,
        append_timeout_ms: int = 15_000,
        machine: str = "",
        snapshot_chunks: int = SNAPSHOT_CHUNKS,
    ) -> None:
        self._settings = settings
        self._node_id = node_id
        self._loop = loop
        self._session = Session(settings, loop=loop, on_state=self._note_state)
        self._writer = Writer(
            self._session,
            clock=clock,
            loop=loop,
            timeout_ms=append_timeout_ms,
            on_batch=self._tell_batch,
            on_trouble=self._note_trouble,
        )
        self._snapshots = SnapshotKeeper(
            self._session, clock=clock, loop=loop, bytes_max=snapshot_bytes, chunks_max=snapshot_chunks
        )
        self._marks = {due: self._mark(due) for due in _Due}  # each one is one watch, however often it is set
        self._membership = Membership(
            self._session,
            machine=machine or platform.node(),
            on_change=self._marks[_Due.BROKERS],
            on_loss=self._marks[_Due.REGISTRATION],
        )
        self._state = SessionState.LOST
        self._connection = 0
        self._due: set[_Due] = set()
        self._wake = asyncio.Event()
        self._listener: StoreListener | None = None
        self._cluster_id = ""
        self._pump: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._registering_again: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._position = 0
        self._told_leader: Leader | None = None
        self._told_contact = True
        self._told_brokers: dict[int, BrokerRegistration] | None = None

    @property
    def next_offset(self) -> int:
        """The offset that the next record to be appended will have."""
        return self._writer.next_offset if self._writer.reign is not None else self._position

    # ----- the start

    async def cluster_id(self, own: str) -> str:
        """The cluster's id, which is `own` from now on where it has none yet.

        Raises:
            StorageError: ZooKeeper cannot be reached, or something else than a cluster of ours lies there.
        """
        try:
            await self._session.open()
            self._cluster_id = await settle_cluster(self._session, own, self._where())
        except (ZooKeeperError, DecodeError) as error:
            await self._session.close()
            raise StorageError(self._complaint(error)) from error
        except StorageError:
            await self._session.close()
            raise
        return self._cluster_id

    async def open(self, listener: StoreListener) -> None:
        """Tells the listener everything there is, and who leads, if anybody does; `cluster_id` comes first.

        Raises:
            StorageError: ZooKeeper cannot be reached, or the log cannot be read.
        """
        assert self._cluster_id, "the cluster's id comes first"
        self._listener = listener
        self._opened = self._loop.create_future()
        self._due.update(_Due)
        self._wake.set()
        self._pump = self._loop.create_task(self._take_turns(), name="zookeeper")
        timeout_ms = self._settings.connection_timeout_ms
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._opened
        except TimeoutError:
            await self.close()
            raise StorageError(f"{self._where()} could not be read within {timeout_ms} ms") from None
        except StorageError:
            await self.close()
            raise

    def _where(self) -> str:
        return f"ZooKeeper at {self._settings.hosts}{self._settings.root}"

    def _complaint(self, error: Exception) -> str:
        return str(error) if isinstance(error, ConnectionLostError) else f"{self._where()}: {error}"

    # ----- what happens to the connection

    def _mark(self, due: _Due) -> Callable[[], None]:
        def mark() -> None:
            self._due.add(due)
            self._wake.set()

        return mark

    def _note_state(self, state: SessionState) -> None:
        before, self._state = self._state, state
        if state is SessionState.CONNECTED:
            self._connection += 1
            if self._connection > 1:
                logger.info("zookeeper is back hosts=%s", self._settings.hosts)
            self._look_at_everything()
            return
        self._step_down()
        self._tell_contact(False)
        if state is SessionState.LOST:
            logger.warning("zookeeper session is over, another one follows hosts=%s", self._settings.hosts)
        elif before is SessionState.CONNECTED:
            logger.warning(
                "zookeeper is out of reach: events are served, but no metadata can change hosts=%s",
                self._settings.hosts,
            )

    def _look_at_everything(self) -> None:
        self._membership.forget()
        self._due.update(_Due)
        self._wake.set()

    def _note_trouble(self, error: ZooKeeperError | None) -> None:
        if not isinstance(error, ConnectionLostError | SessionLostError):
            logger.warning(
                "metadata writer stopped, and reads the log again reason=%s",
                error or "an append took too long",
            )
        self._step_down()
        self._look_at_everything()

    def _step_down(self) -> None:
        """This node does not know any more that it leads."""
        self._writer.pause()
        if self._told_leader is not None and self._told_leader.node_id == self._node_id:
            self._tell_leader(Leader(-1, self._told_leader.epoch))

    # ----- turns

    async def _take_turns(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._state is not SessionState.CONNECTED:
                continue
            try:
                await self._take_turn()
            except (ConnectionLostError, SessionLostError):
                self._look_at_everything()
                await asyncio.sleep(_RETRY_S)
            except (ZooKeeperError, DecodeError, StorageError) as error:
                await self._note_damage(error)
            except Exception as error:
                logger.exception("metadata from zookeeper could not be taken over")
                await self._note_damage(error)
            else:
                if not self._due:
                    self._tell_contact(True)
                    if self._opened is not None and not self._opened.done():
                        self._opened.set_result(None)

    async def _note_damage(self, error: Exception) -> None:
        complaint = self._complaint(error)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(StorageError(complaint))
            return
        logger.error("metadata in zookeeper cannot be followed, it is tried again reason=%s", complaint)
        self._step_down()
        try:
            await resign(self._session)
        except (ZooKeeperError, DecodeError) as refused:
            logger.warning("zookeeper does not let this node resign reason=%s", refused)
        await asyncio.sleep(_RETRY_AFTER_DAMAGE_S)
        self._look_at_everything()

    async def _take_turn(self) -> None:
        connection = self._connection
        if self._takes(_Due.CLUSTER):
            await check_cluster(self._session, self._cluster_id, self._where())
        if self._takes(_Due.REGISTRATION):
            await self._register_again()
        if self._takes(_Due.CONTROLLER):
            leader, reign = await find_leader(self._session, self._node_id, self._marks[_Due.CONTROLLER])
            if reign is None:
                await self._follow(leader)
            elif self._writer.reign != reign:
                await self._lead(reign, connection)
        if self._takes(_Due.HEAD) and self._writer.reign is None:
            await self._writer.idle()
            await self._replay()
        if self._takes(_Due.BROKERS):
            await self._tell_brokers()

    def _takes(self, due: _Due) -> bool:
        if due not in self._due:
            return False
        self._due.discard(due)
        return True

    async def _follow(self, leader: Leader) -> None:
        self._step_down()
        await self._writer.idle()
        self._due.discard(_Due.HEAD)
        await self._replay()
        await self._writer.fail(not_controller())
        self._tell_leader(leader)

    async def _lead(self, reign: Reign, connection: int) -> None:
        self._step_down()
        await self._writer.idle()
        head_version = await self._replay()
        if not self._writer.left_over(reign.epoch):
            await self._writer.fail(not_controller())
        if self._takes(_Due.BROKERS):
            await self._tell_brokers()  # whoever leads acts on it at once
        remaining = await delete_beyond(self._session, self._position - 1)
        pointer = await read_pointer(self._session)
        if connection != self._connection or self._state is not SessionState.CONNECTED:
            return  # everything is looked at again
        self._snapshots.on_reign(chunks=remaining, size_bytes=0 if pointer is None else pointer.size_bytes)
        self._writer.begin(reign, head_version=head_version, next_offset=self._position)
        self._tell_leader(Leader(self._node_id, reign.epoch))

    # ----- the log

    async def _replay(self) -> int:
        """Tells what is new in the log; gives the head's version, and watches it."""
        while True:
            node = await self._session.get(HEAD, self._marks[_Due.HEAD])
            head = decode_head(node.data)
            if head.offset < self._position - 1:
                raise StorageError(
                    f"{self._where()} has lost metadata: it goes up to offset {head.offset}, and this broker knows it up to "
                    f"{self._position - 1}: bring its data back"
                )
            if head.offset == self._position - 1:
                return node.version
            if self._position == 0:
                await self._restore()
            try:
                async for batches in read_log(self._session, self._position, head.offset):
                    await self._deliver(batches)
            except LogTrimmedError:
                await self._restore(due=True)

    async def _restore(self, *, due: bool = False) -> None:
        """Takes over the newest snapshot."""
        found = await read_snapshot(self._session)
        if found is None or found[0].next_offset <= self._position:
            if due:
                raise StorageError(
                    f"{self._where()} has a gap in its metadata log at offset {self._position}: bring its data back"
                )
            return
        pointer, records = found
        await self._writer.fail(
            unknown_outcome("The log was replaced by a snapshot, which may have the change")
        )
        assert self._listener is not None
        self._position = pointer.next_offset
        self._snapshots.on_restored(pointer.size_bytes)
        self._listener.on_snapshot(records, pointer.next_offset - 1, pointer.epoch)

    async def _deliver(self, batches: list[Batch]) -> None:
        rest: list[Batch] = []
        for number, batch in enumerate(batches):
            if not self._writer.take(batch):
                rest = batches[number:]
                break
        if rest:
            # What we still wanted to write there was overtaken.
            await self._writer.fail(not_controller())
            records = (
                rest[0].records if len(rest) == 1 else [each for batch in rest for each in batch.records]
            )
            self._tell_batch(
                Batch(records, rest[-1].last_offset, rest[-1].epoch, sum(each.size_bytes for each in rest))
            )

    def _tell_batch(self, batch: Batch) -> None:
        assert self._listener is not None
        self._position = batch.last_offset + 1
        self._snapshots.on_batch(batch.size_bytes)
        self._listener.on_commit(batch.records, batch.last_offset, batch.epoch)

    def append(self, records: Sequence[Any]) -> asyncio.Future[int]:
        """Appends records as one batch; see `MetadataStore`.

        The future fails with KafkaError NOT_CONTROLLER, or REQUEST_TIMED_OUT when ZooKeeper was out of reach for too long.
        """
        return self._writer.append(records)

    def _tell_leader(self, leader: Leader) -> None:
        if leader != self._told_leader and self._listener is not None:
            self._told_leader = leader
            self._listener.on_leadership(leader.node_id, leader.epoch)

    def _tell_contact(self, is_in_touch: bool) -> None:
        if is_in_touch != self._told_contact and self._listener is not None and not self._is_closing:
            self._told_contact = is_in_touch
            self._listener.on_contact(is_in_touch)

    # ----- snapshots

    def snapshot_if_due(self, image: MetadataImage) -> None:
        """Keeps the image as a snapshot when this node leads, and the log has grown enough since the last one."""
        self._snapshots.keep_if_due(image, self._writer.reign)

    # ----- brokers

    async def register(self, registration: BrokerRegistration) -> None:
        """Makes this broker known as alive; see `MetadataStore`.

        The node of a process of this broker that was killed may be in the way until ZooKeeper has not heard of it for the session
        timeout; this waits for it.
        """
        self._membership.registration = registration
        end = self._loop.time() + self._settings.connection_timeout_ms / 1000
        patience_s = self._settings.session_timeout_ms / 1000 * _REGISTRATION_PATIENCE
        while True:
            try:
                await self._membership.ensure(is_new=True, patience_s=patience_s)
            except (ConnectionLostError, SessionLostError) as error:
                if self._loop.time() >= end:
                    raise StorageError(self._complaint(error)) from error
                await asyncio.sleep(_RETRY_S)
            except ZooKeeperError as error:
                raise StorageError(self._complaint(error)) from error
            except KafkaError:
                self._membership.registration = None
                raise
            else:
                return

    async def _register_again(self) -> None:
        try:
            await self._membership.ensure()
        except KafkaError as error:
            logger.warning("this broker cannot be made known, and tries again reason=%s", error)
            if self._registering_again is not None:
                self._registering_again.cancel()  # each new connection tries, too
            self._registering_again = self._loop.call_later(
                _RETRY_AFTER_DAMAGE_S, self._marks[_Due.REGISTRATION]
            )

    async def unregister(self) -> None:
        """This broker stops in order; the others learn it at once, if ZooKeeper is in reach."""
        try:
            await self._membership.withdraw()
        except ZooKeeperError as error:
            logger.warning("this broker could not say that it stops reason=%s", error)

    async def report_gone(self, broker_id: int, incarnation_id: bytes) -> None:
        """Another broker's process has ended: its nodes go before its session does; see `MetadataStore`."""
        try:
            await self._membership.remove(broker_id, incarnation_id)
        except ZooKeeperError as error:
            raise StorageError(self._complaint(error)) from error

    async def _tell_brokers(self) -> None:
        live = await self._membership.live()
        if live != self._told_brokers:
            self._told_brokers = live
            assert self._listener is not None
            self._listener.on_live_brokers(live)

    # ----- the end

    async def close(self) -> None:
        """Waits a moment for what was appended, and ends the session: this node leads and lives no longer."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._writer.reign is not None:
            try:
                async with asyncio.timeout(_CLOSE_PATIENCE_S):
                    await self._writer.drained()
            except TimeoutError:
                logger.warning("zookeeper does not take the last metadata changes in time")
        tasks = [task for task in (self._pump, self._snapshots.task) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._writer.close()
        await self._session.close()
