"""A broker: the one place that builds every room and connects them.

    Broker(config)      builds nothing yet
    await start()       opens the directories, replays the metadata log, recovers what a crash left, listens
    await stop()        finishes what was accepted, writes everything down, lets go

`run` does this for a process of its own: its loop, its signals, its exit status.

The order of a start matters: ports first (a port in use must leave no trace on the disk), then the directories (nobody else
may use them), then the metadata log (it says which partitions there are), then the logs, and clients last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barnabas import __version__
from barnabas.client.controller_channel import ControllerAddress, ControllerChannel
from barnabas.clock import SystemClock
from barnabas.config.topic import LogConfigs
from barnabas.controller.brokers import BrokerRegistration
from barnabas.controller.controller import Controller
from barnabas.controller.lifecycle import BrokerLifecycle
from barnabas.controller.store.embedded import EmbeddedStore
from barnabas.controller.store.metadata_log import METADATA_DIRECTORY
from barnabas.coordinators.group_coordinator import GroupCoordinator
from barnabas.coordinators.markers import LocalMarkers
from barnabas.coordinators.transaction_coordinator import TransactionCoordinator
from barnabas.coordinators.transaction_verifier import TransactionVerifier
from barnabas.coordinators.transactional_offsets import TransactionalOffsets
from barnabas.errors import ConfigError, StorageError
from barnabas.handlers.client_telemetry import ClientTelemetry
from barnabas.handlers.refusals import RefusalLog
from barnabas.handlers.registry import Dispatcher
from barnabas.handlers.services import BrokerServices
from barnabas.log.files import Files
from barnabas.log.group_commit import GroupCommit
from barnabas.log.kernel_sync import KernelSync
from barnabas.log.log_directories import LogDirectories
from barnabas.log.log_metrics import LogMetrics
from barnabas.log.missing_directories import KnownPlacements
from barnabas.metadata.identifiers import UNASSIGNED_DIRECTORY, ResourceType
from barnabas.metrics import Registry
from barnabas.network.context import format_address
from barnabas.network.disk_readers import DiskReaders
from barnabas.network.endpoints import (
    parse_advertised_listeners,
    parse_listeners,
    parse_security_protocol_map,
)
from barnabas.network.event_loop import new_event_loop
from barnabas.network.limits import NetworkLimits
from barnabas.network.socket_server import SocketServer
from barnabas.replication.directory_assignments import DirectoryAssignments
from barnabas.replication.directory_moves import DirectoryMoves
from barnabas.replication.replicas import Replicas
from barnabas.replication.sessions import FetchSessions
from barnabas.replication.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig
    from barnabas.config.topic import LogConfig
    from barnabas.controller.store import MetadataStore
    from barnabas.coordinators.markers import MarkerWriter
    from barnabas.coordinators.remote_transactions import RemoteTransactions
    from barnabas.metadata.deltas import MetadataDelta
    from barnabas.metadata.image import MetadataImage
    from barnabas.network.context import Address, ConnectionContext
    from barnabas.network.metrics_endpoint import MetricsEndpoint
    from barnabas.network.parked import Answer
    from barnabas.replication.replication import Replication
    from barnabas.wire.message import Message
    from barnabas.wire.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse

    OpenStore = Callable[[BrokerConfig, Clock, asyncio.AbstractEventLoop], MetadataStore]

__all__ = ["Broker", "Surroundings", "run"]

logger = logging.getLogger(__name__)

STOP_TIMEOUT_MS = 10_000

_STARTING, _RECOVERING, _RUNNING, _STOPPING, _FAILING = 1, 2, 3, 6, 127


class Surroundings:
    """What a broker touches of the world besides its clock and its loop: files, threads that sync, sockets."""

    def open_files(self, max_open: int) -> Files:
        """The file system."""
        return Files(max_open)

    def open_group_commit(self, loop: asyncio.AbstractEventLoop, threads: int) -> GroupCommit:
        """What brings logs to the disk."""
        return GroupCommit(loop, threads, open_kernel_sync=KernelSync.open)

    def open_server(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, limits: NetworkLimits, metrics: Registry
    ) -> SocketServer:
        """What listens; nothing is bound yet, and `dispatch` is set before anybody is served."""
        return SocketServer(loop=loop, clock=clock, limits=limits, dispatch=_not_yet, metrics=metrics)


class Broker:
    """One broker in this process, on the running loop.

    Args:
        config: Its settings; dynamic ones are taken over while it runs.
        clock: The time.
        shared_store: Makes this node's way to the metadata log of its cluster; without, it is a cluster of its own, whose log
            lies in its directories.
        surroundings: The world; a simulation hands in its own.

    Attributes:
        failed: Done with the reason when the broker cannot go on; None before the start.
        metrics_address: Where metrics are served; None if they are not.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        clock: Clock | None = None,
        shared_store: OpenStore | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.config = config
        self._log_configs = LogConfigs(config)
        self._surroundings = surroundings or Surroundings()
        self._shared_store = shared_store or (_in_zookeeper if config["zookeeper.connect"] else None)
        self.clock: Clock = clock or SystemClock()
        self.metrics = Registry(self.clock)
        self.failed: asyncio.Future[str] | None = None
        self.metrics_address: Address | None = None
        self._closing = contextlib.AsyncExitStack()
        self._state = _STARTING
        self._lost_logs = 0
        self._deleted_names: set[str] | None = None
        self._node_id: int = config["node.id"]
        self._replication: Replication | None = None
        self._remote_transactions: RemoteTransactions | None = None

    @property
    def addresses(self) -> dict[str, Address]:
        """Host and actual port of each listener, by its name."""
        return self._server.addresses

    @property
    def log_directories(self) -> LogDirectories:
        """Where the logs lie."""
        return self._log_directories

    # ----- start

    async def start(self) -> None:
        """Gets ready to serve, and serves.

        Raises:
            ConfigError: a setting is wrong, a port or a directory is in use; one sentence with the remedy.
            StorageError: the metadata log, or all logs, cannot be read or written.
        """
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise

    async def _start(self) -> None:
        config = self.config
        loop = asyncio.get_running_loop()
        self.failed = loop.create_future()
        self._disk_readers = DiskReaders(loop)
        self._closing.callback(self._disk_readers.close)
        self._waiting = Waiting(loop, self.clock, self._disk_readers)
        self._closing.callback(self._waiting.close)

        self._listen(loop)
        self._open_directories(loop)
        store = self._metadata_store(loop)
        self._log_directories.settle_cluster_id(await store.cluster_id(self._log_directories.cluster_id))
        self._controller = Controller(
            store,
            node_id=self._node_id,
            cluster_id=self._log_directories.cluster_id,
            config=config,
            loop=loop,
        )
        self._controller.hold_snapshots()
        await self._controller.open()
        self._closing.push_async_callback(self._controller.close)
        self._reach_controller(loop)
        self._log_directories.set_aside_strays(self._belongs_here, self._had_namesake)
        misplaced = self._adopt_directories()
        self._replicate(loop)
        assignments = DirectoryAssignments(loop, self._controller.place_replicas)
        self._replicas = Replicas(
            node_id=self._node_id,
            log_directories=self._log_directories,
            group_commit=self._group_commit,
            durability=config["barnabas.durability"],
            log_config=self._log_config,
            loop=loop,
            metrics=self.metrics,
            on_placement=assignments.note,
            duties=None if self._replication is None else self._replication.duties,
        )
        self._directory_moves = DirectoryMoves(
            log_directories=self._log_directories,
            replicas=self._replicas,
            group_commit=self._group_commit,
            config=config,
            loop=loop,
            assign=assignments.assign,
            check_room=self._controller.check_room,
        )
        self._closing.push_async_callback(self._directory_moves.close)
        self._state = _RECOVERING
        await self._log_directories.recover()
        self._group_coordinator = GroupCoordinator(
            controller=self._controller, config=config, clock=self.clock, loop=loop, metrics=self.metrics
        )
        self._closing.push_async_callback(self._group_coordinator.close)
        self._replicas.add_leadership_listener(self._group_coordinator.on_leadership)
        self._coordinate_transactions(loop)
        if self._replication is not None:
            self._replicas.add_leadership_listener(self._replication.fetchers.on_leadership)
        # Until the controller has heard that the last run is over, the image may still say that this broker leads or is in sync
        # with what it held then: nothing is led or followed before (and no marker sent, and no in-sync replica dropped).
        await self._join_cluster()
        for topic in self._controller.image.topics.values():
            self._replicas.apply_topic(topic, is_new=False)
        self._client_telemetry = ClientTelemetry(self.clock, config)
        self._client_telemetry.configure(self._controller.image)
        self._controller.add_listener(self._follow)
        self._controller.add_listener(self._group_coordinator.on_metadata)
        self._controller.add_listener(self._transaction_coordinator.on_metadata)
        if self._replication is not None:
            self._controller.add_listener(self._replication.on_metadata)
        self._controller.release_snapshots()
        config.add_listener(self._reconfigure)
        self._serve(loop)
        await self._ask_to_serve(misplaced)
        if self.failed.done():
            raise StorageError(f"{self.failed.result()}; let this user read and write it, or mend the disk")
        self._log_directories.start_upkeep()
        self._directory_moves.resume()
        self._register_metrics()
        await self._open_metrics()
        self._server.start()
        self._closing.push_async_callback(self._server.stop, STOP_TIMEOUT_MS)
        self._closing.push_async_callback(self._leave_cluster)
        if self._shared_store is not None:
            self._balance_leaders(loop)
            self._watch_neighbours(loop)
        self._state = _RUNNING

    def _reach_controller(self, loop: asyncio.AbstractEventLoop) -> None:
        """The ways to whichever node leads the metadata log."""
        self._channel = ControllerChannel(
            loop=loop,
            controller=self._controller_address,
            call_here=self._call_here,
            client_id=f"broker-{self._node_id}-to-controller",
        )
        self._closing.push_async_callback(self._channel.close)
        if self._shared_store is not None:
            from barnabas.controller.requests import ControllerRequests

            self._controller.requests = ControllerRequests(
                self._node_id, self._controller, self._channel, loop
            )
        self._lifecycle = BrokerLifecycle(
            node_id=self._node_id,
            controller=self._controller,
            channel=self._channel,
            loop=loop,
            interval_ms=self.config["broker.heartbeat.interval.ms"],
            offline_log_dirs=self._unusable_log_dirs,
            on_fenced=self._resign,
        )
        self._controller.add_leader_listener(self._channel.on_change)
        self._controller.add_leader_listener(self._lifecycle.tell)
        self._controller.add_contact_listener(self._lifecycle.on_contact)

    def _resign(self) -> None:
        """The controller has fenced this broker."""
        self._replicas.resign()

    def _balance_leaders(self, loop: asyncio.AbstractEventLoop) -> None:
        from barnabas.controller.balancing import LeaderBalancing

        balancing: LeaderBalancing = LeaderBalancing(self._controller, self.config, loop)
        balancing.start()
        self._closing.callback(balancing.stop)

    def _watch_neighbours(self, loop: asyncio.AbstractEventLoop) -> None:
        from barnabas.controller.neighbours import Neighbours

        neighbours: Neighbours = Neighbours(
            node_id=self._node_id,
            listener=self._broker_listener,
            image=lambda: self._controller.image,
            report_gone=self._controller.report_gone,
            loop=loop,
        )
        self._controller.add_listener(neighbours.on_metadata)
        self._controller.add_leader_listener(neighbours.look)
        neighbours.look()
        self._closing.push_async_callback(neighbours.close)

    def _alter_partition(self, request: AlterPartitionRequest) -> asyncio.Future[AlterPartitionResponse]:
        """The controller's answer to what this broker's partitions propose, for as long as it takes."""
        return self._channel.send(request, timeout_ms=_ALTER_PARTITION_MS)

    def _replicate(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leaders and followers of the cluster's partitions; a node of its own has neither."""
        if self._shared_store is None:
            return
        from barnabas.replication.replication import Replication

        self._replication = Replication(
            node_id=self._node_id,
            config=self.config,
            image=lambda: self._controller.image,
            listener=self._broker_listener,
            alter_partition=self._alter_partition,
            full_directories=self._full_log_dirs,
            clock=self.clock,
            loop=loop,
        )
        self._closing.push_async_callback(self._replication.close)
        from barnabas.client.peers import Peers
        from barnabas.coordinators.remote_transactions import RemoteTransactions

        peers: Peers = Peers(
            loop=loop, endpoint=self._replication.endpoint_of, client_id=f"broker-{self._node_id}"
        )
        self._closing.push_async_callback(peers.close)
        self._lifecycle.peers = peers
        from barnabas.controller.hearsay import Hearsay

        self._lifecycle.hearsay = Hearsay(
            node_id=self._node_id,
            image=lambda: self._controller.image,
            peers=peers,
            on_change=self._channel.on_change,
        )
        self._remote_transactions = RemoteTransactions(
            peers, loop, timeout_ms=self.config["request.timeout.ms"]
        )

    def _unusable_log_dirs(self) -> list[bytes]:
        """The directories that failed, and the full ones if all are, so that another broker leads while there is one."""
        directories = self._log_directories
        is_full = self._has_neighbours and all(each.is_full for each in directories.online)
        return [
            each.directory_id
            for each in directories.directories
            if (is_full or each.is_offline) and each.directory_id is not None
        ]

    def _full_log_dirs(self) -> list[bytes]:
        return [
            each.directory_id
            for each in self._log_directories.directories
            if each.is_full and each.directory_id is not None
        ]

    @property
    def _has_neighbours(self) -> bool:
        return len(self._controller.image.brokers) > 1

    def _controller_address(self) -> ControllerAddress | None:
        image = self._controller.image
        if self._controller.is_leader:
            return ControllerAddress(self._node_id, None)
        hearsay = self._lifecycle.hearsay
        if hearsay is not None and hearsay.address is not None:
            return hearsay.address
        leader = image.brokers.get(image.controller_id)
        endpoint = None if leader is None else leader.endpoints.get(self._broker_listener)
        return None if endpoint is None else ControllerAddress(image.controller_id, endpoint)

    async def _call_here(self, request: Message) -> Any:
        answer = self._call(request)
        return await answer if hasattr(answer, "__await__") else answer

    def _coordinate_transactions(self, loop: asyncio.AbstractEventLoop) -> None:
        self._local_markers = LocalMarkers(self._replicas, self._group_coordinator, self.clock, loop)
        self._transaction_coordinator = TransactionCoordinator(
            controller=self._controller,
            config=self.config,
            writer_for=self._marker_writer,
            clock=self.clock,
            loop=loop,
            metrics=self.metrics,
        )
        self._closing.push_async_callback(self._transaction_coordinator.close)
        self._transaction_verifier = TransactionVerifier(
            self._transaction_coordinator,
            self.config,
            loop,
            self.metrics,
            node_id=self._node_id,
            remote=self._remote_transactions,
        )
        self._transactional_offsets = TransactionalOffsets(
            self._group_coordinator, self._transaction_verifier, loop
        )
        self._replicas.add_leadership_listener(self._transaction_coordinator.on_leadership)

    def _marker_writer(self, node_id: int) -> MarkerWriter | None:
        if node_id == self._node_id:
            return self._local_markers
        if self._remote_transactions is None or node_id not in self._controller.image.brokers:
            return None
        from barnabas.coordinators.remote_transactions import RemoteMarkers

        return RemoteMarkers(self._remote_transactions, node_id)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        config = self.config
        protocols = parse_security_protocol_map(config["listener.security.protocol.map"])
        listeners = config.for_clients("listeners")
        if config["listeners"] and not listeners:
            raise ConfigError(
                "listeners are all in controller.listener.names, which are not opened; add one for clients, for example "
                "PLAINTEXT://localhost:9092."
            )
        endpoints = parse_listeners(listeners, protocols)
        advertised = config.for_clients("advertised.listeners")
        self._advertised = parse_advertised_listeners(advertised, endpoints, protocols) if advertised else {}
        self._server = self._surroundings.open_server(
            loop, self.clock, NetworkLimits.from_config(config), self.metrics
        )
        self._server.open(endpoints)
        self._broker_listener = config["inter.broker.listener.name"] or next(iter(self._server.addresses))
        self._closing.push_async_callback(self._server.stop, 0)

    def _open_directories(self, loop: asyncio.AbstractEventLoop) -> None:
        config = self.config
        self._files = self._surroundings.open_files(config["barnabas.open.files"])
        self._closing.callback(self._files.close)
        self._group_commit = self._surroundings.open_group_commit(loop, config["barnabas.worker.threads"])
        self._closing.callback(self._group_commit.close)
        self._log_directories = LogDirectories(
            config,
            self._files,
            self.clock,
            loop=loop,
            group_commit=self._group_commit,
            log_config=self._log_config,
            on_change=self._directory_changed,
        )
        self._log_directories.open()
        self._closing.push_async_callback(self._close_directories)

    async def _close_directories(self) -> None:
        is_orderly = self._state == _STOPPING
        await self._log_directories.close(
            clean=is_orderly, broker_epoch=self._known_epoch() if is_orderly else -1
        )

    def _adopt_directories(self) -> dict[tuple[bytes, int], bytes]:
        """Compares the directories with the metadata; new ones are taken. Gives what the metadata has to learn of them."""
        image = self._controller.image
        placed = {
            (topic.name, partition.index): partition.directory_of(self._node_id) or UNASSIGNED_DIRECTORY
            for topic in image.topics.values()
            for partition in topic.partitions
            if self._node_id in partition.replicas
        }
        broker = image.brokers.get(self._node_id)
        report = self._log_directories.adopt(
            KnownPlacements(
                placed,
                () if broker is None else broker.log_dirs,
                {topic.name: topic.id for topic in image.topics.values()},
            )
        )
        self._lost_logs = len(report.given_up)
        return {
            (image.topics[topic].id, index): directory_id
            for (topic, index), directory_id in report.corrections.items()
        }

    def _metadata_store(self, loop: asyncio.AbstractEventLoop) -> MetadataStore:
        config = self.config
        if self._shared_store is not None:
            self._refuse_metadata_of_a_single_node()
            return self._shared_store(config, self.clock, loop)
        first = self._log_directories.directories[0]
        directory = Path(config["metadata.log.dir"] or first.path)
        if directory == first.path and isinstance(first.error, StorageError):
            raise ConfigError(f"{first.error}.")
        if len(self._log_directories) and not self._files.exists(directory / METADATA_DIRECTORY):
            raise ConfigError(
                f"{directory} has no metadata log ({METADATA_DIRECTORY}), though there are logs of partitions: mount its disk, "
                "or name the directory that has it in metadata.log.dir."
            )
        return EmbeddedStore(
            self._files,
            directory / METADATA_DIRECTORY,
            node_id=self._node_id,
            clock=self.clock,
            loop=loop,
            snapshot_bytes=config["metadata.log.max.record.bytes.between.snapshots"],
            segment_bytes=config["metadata.log.segment.bytes"],
            on_load=self._on_metadata_loaded,
            before_snapshot=self._log_directories.renames_sync,
        )

    def _refuse_metadata_of_a_single_node(self) -> None:
        """The cluster knows nothing of its topics, whose logs would be set aside as nobody's."""
        directories = [each.path for each in self._log_directories.online]
        if self.config["metadata.log.dir"]:
            directories.append(Path(self.config["metadata.log.dir"]))
        for directory in directories:
            if self._files.exists(directory / METADATA_DIRECTORY):
                raise ConfigError(
                    f"{directory} has the metadata of a single node ({METADATA_DIRECTORY}), which no cluster has: give this broker "
                    "another data directory, or start it without zookeeper.connect."
                )

    def _on_metadata_loaded(self, damage: str | None, deleted: Mapping[bytes, str]) -> None:
        self._deleted_names = deleted_names = set(deleted.values())
        if damage is not None:
            self._refuse_if_topics_are_gone(damage, deleted, deleted_names)

    def _refuse_if_topics_are_gone(
        self, damage: str, deleted: Mapping[bytes, str], deleted_names: set[str]
    ) -> None:
        """A crash may tear the end of the metadata log, but takes no topic with it that has logs already."""
        gone = [
            f"{topic}-{index}"
            for topic, index, topic_id in self._log_directories.topic_ids()
            if (topic not in deleted_names if topic_id is None else topic_id not in deleted)
            and not self._belongs_here(topic, index, topic_id)
        ]
        if gone:
            raise StorageError(
                f"{damage}, and the topics of {len(gone)} logs are not in it any more ({', '.join(gone[:5])}): restore the "
                "metadata log from a backup, or move these logs away to start without them"
            )

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        config = self.config
        self._services = BrokerServices(
            node_id=self._node_id,
            cluster_id=self._log_directories.cluster_id,
            config=config,
            clock=self.clock,
            loop=loop,
            controller=self._controller,
            channel=self._channel,
            broker_listener=None if self._shared_store is None else self._broker_listener,
            replicas=self._replicas,
            log_directories=self._log_directories,
            directory_moves=self._directory_moves,
            group_coordinator=self._group_coordinator,
            transaction_coordinator=self._transaction_coordinator,
            transaction_verifier=self._transaction_verifier,
            transactional_offsets=self._transactional_offsets,
            local_markers=self._local_markers,
            fetch_sessions=FetchSessions(
                self.clock,
                max_sessions=config["max.incremental.fetch.session.cache.slots"],
                eviction_ms=_SESSION_EVICTION_MS,
            ),
            client_telemetry=self._client_telemetry,
            disk_readers=self._disk_readers,
            waiting=self._waiting,
            metrics=self.metrics,
            refusals=RefusalLog(self.clock),
            fetch_max_bytes=config["fetch.max.bytes"],
            leader_quota=None if self._replication is None else self._replication.leader_quota,
            read_replicas=None if self._replication is None else self._replication.read_replicas,
            is_left_behind=self._lifecycle.is_left_behind,
        )
        dispatcher = self._dispatcher()
        dispatcher.register_metrics(self.metrics)
        self._server.dispatch = dispatcher.dispatch
        self._call = dispatcher.call
        self._closing.callback(dispatcher.cancel)

    def _dispatcher(self) -> Dispatcher:
        if self.config["barnabas.metrics.port"] < 0:
            return Dispatcher(self._services)
        from barnabas.handlers.measuring_dispatcher import MeasuringDispatcher

        return MeasuringDispatcher(self._services)

    async def _join_cluster(self) -> None:
        endpoints = {
            name: self._advertised.get(name) or self._reachable(address)
            for name, address in self._server.addresses.items()
        }
        registration = BrokerRegistration(
            broker_id=self._node_id,
            incarnation_id=os.urandom(16),
            endpoints=endpoints,
            rack=self.config["broker.rack"],
            log_dirs=tuple(self._log_directories.directory_ids),
            clean=self._log_directories.has_kept(self._known_epoch()) and not self._lost_logs,
        )
        async with self._until_taken():
            await self._lifecycle.join(registration)

    async def _ask_to_serve(self, misplaced: Mapping[tuple[bytes, int], bytes]) -> None:
        async with self._until_taken() as timeout_ms:
            if misplaced:
                await self._controller.place_replicas(misplaced)
            await self._lifecycle.serve(timeout_ms=timeout_ms)
        self._controller.add_listener(self._lifecycle.follow)
        if self._shared_store is not None:
            self._log_directories.mark_running(self._lifecycle.epoch)

    @contextlib.asynccontextmanager
    async def _until_taken(self) -> AsyncIterator[int]:
        timeout_ms = self.config["initial.broker.registration.timeout.ms"]
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                yield timeout_ms
        except TimeoutError:
            raise ConfigError(
                f"the cluster did not take this broker within {timeout_ms} ms (initial.broker.registration.timeout.ms); "
                "look whether another broker leads the metadata log and can be reached."
            ) from None

    def _known_epoch(self) -> int:
        broker = self._controller.image.brokers.get(self._node_id)
        return -1 if broker is None else broker.epoch

    def _reachable(self, address: Address) -> Address:
        """Where others reach a listener that advertises nothing."""
        host, port = address
        if self._shared_store is None:
            return "", port  # clients are told the address by which they came
        if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - not bound here
            host = socket.gethostname()
        return host, port

    async def _leave_cluster(self) -> None:
        is_orderly = self._state == _STOPPING and not (self.failed and self.failed.done())
        await self._lifecycle.leave(hand_over=is_orderly and self.config["controlled.shutdown.enable"])

    def _belongs_here(self, topic: str, index: int, topic_id: bytes | None) -> bool:
        found = self._controller.image.topics.get(topic)
        return (
            found is not None
            and (topic_id is None or found.id == topic_id)
            and index < len(found.partitions)
            and self._node_id in found.partitions[index].replicas
        )

    def _had_namesake(self, topic: str) -> bool:
        """Whether another topic of this name was deleted lately; what the metadata of a cluster has forgotten, it may."""
        return self._deleted_names is None or topic in self._deleted_names

    # ----- while it runs

    def _log_config(self, topic: str) -> LogConfig:
        return self._log_configs.get(self._controller.image.topic_config(topic))

    def _follow(self, image: MetadataImage, delta: MetadataDelta) -> None:
        """A committed change of metadata: partitions are created, led, deleted and configured as it says."""
        replicas = self._replicas
        for topic in delta.deleted_topics.values():
            self._directory_moves.cancel_topic(topic.name)
            replicas.remove_topic(topic.name, topic.id)
        for topic in delta.created_topics.values():
            replicas.apply_topic(topic, is_new=True)
        for _, topic in delta.changed_topics.values():
            replicas.apply_topic(topic, is_new=True)
        if any(kind == ResourceType.CLIENT_METRICS for kind, _ in delta.changed_configs):
            self._client_telemetry.configure(image)
        configured = {name for kind, name in delta.changed_configs if kind == ResourceType.TOPIC}
        if configured:
            replicas.configure_topics(configured)
            self._log_directories.cleaner.reconfigure()

    def _reconfigure(self, changed: frozenset[str]) -> None:
        """Broker settings changed dynamically."""
        self._replicas.configure_all()
        self._log_directories.cleaner.reconfigure()
        self._server.update_limits(NetworkLimits.from_config(self.config))
        logger.info("settings are in force names=%s", ",".join(sorted(changed)))

    def _directory_changed(self, path: Path) -> None:
        """It failed, is full, or has room again."""
        directories = self._log_directories
        if self._state == _RUNNING and self._has_neighbours:
            self._lifecycle.tell()
        if not directories.online and self.failed is not None and not self.failed.done():
            reason = next(each.error for each in directories.directories if each.path == path)
            self.failed.set_result(f"every log directory is offline, at last {path} ({reason})")

    # ----- metrics

    def _register_metrics(self) -> None:
        metrics = self.metrics
        metrics.gauge_function("kafka_server_kafkaserver_brokerstate", lambda: self._state)
        self._replicas.register_metrics()
        if self._replication is not None:
            self._replication.register_metrics(metrics)
        self._waiting.register_metrics(metrics)
        self._controller.register_metrics(metrics)
        self._services.fetch_sessions.register_metrics(metrics)
        self._services.refusals.register_metrics(metrics)
        self._client_telemetry.register_metrics(metrics)
        LogMetrics(self._log_directories, self._files, self._group_commit).register_metrics(metrics)
        self._log_directories.cleaner.register_metrics(metrics)

    async def _open_metrics(self) -> None:
        port = self.config["barnabas.metrics.port"]
        if port < 0:
            return
        from barnabas.network.metrics_endpoint import MetricsEndpoint

        endpoint: MetricsEndpoint = MetricsEndpoint(self.metrics)
        await endpoint.start(self.config["barnabas.metrics.host"], port)
        self._closing.push_async_callback(endpoint.stop)
        self.metrics_address = endpoint.address
        logger.info("metrics are served address=%s path=/metrics", format_address(endpoint.address))

    # ----- stop

    async def stop(self, *, in_order: bool = True) -> None:
        """Finishes what was accepted, writes everything down and lets go; the next start then reads no log data.

        `in_order=False` leaves out what tells others and the next start that it was an orderly end: as if it had crashed.
        """
        self._state = _STOPPING if in_order else _FAILING
        self._waiting.expire_all()
        await self._closing.aclose()


_ALTER_PARTITION_MS = 60_000
"""So long a proposal of in-sync replicas waits for a controller before it fails."""

_SESSION_EVICTION_MS = 120_000
"""A fetch session that was not used for so long makes room for another (Kafka's constant)."""


def _in_zookeeper(config: BrokerConfig, clock: Clock, loop: asyncio.AbstractEventLoop) -> MetadataStore:
    """The way to the metadata log of the cluster that `zookeeper.connect` names; who has none never imports this."""
    from barnabas.controller.store.zookeeper.settings import zookeeper_store

    return zookeeper_store(config, clock, loop)


def _not_yet(_context: ConnectionContext, _frame: memoryview) -> Answer:
    raise AssertionError("no connection is accepted before the handlers are there")


def run(config: BrokerConfig, ready: Callable[[Broker], None]) -> int:
    """Runs a broker until SIGTERM or SIGINT; gives the exit status.

    Args:
        config: Its settings.
        ready: Called when clients can connect.

    Raises:
        ConfigError: a setting is wrong, a port or a directory is in use; one sentence with the remedy.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_run(config, ready))


async def _run(config: BrokerConfig, ready: Callable[[Broker], None]) -> int:
    broker = Broker(config)
    loop = asyncio.get_running_loop()
    stop = loop.create_future()

    def on_signal(name: str) -> None:
        if not stop.done():
            stop.set_result(name)

    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(
                number, lambda number, _: loop.call_soon_threadsafe(on_signal, signal.Signals(number).name)
            )
        else:
            loop.add_signal_handler(number, on_signal, number.name)
    await broker.start()
    ready(broker)
    assert broker.failed is not None
    await asyncio.wait((stop, broker.failed), return_when=asyncio.FIRST_COMPLETED)
    if broker.failed.done():
        logger.error("broker stops reason=%s", broker.failed.result())
        await broker.stop()
        return 1
    started = time.monotonic()
    logger.info("broker stops signal=%s version=%s", stop.result(), __version__)
    await broker.stop()
    logger.info("broker has stopped seconds=%.3f", time.monotonic() - started)
    return 0
