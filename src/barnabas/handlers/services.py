"""What a handler is given: the broker's rooms, and where a request comes from.

`broker.py` builds one `BrokerServices` per broker process; the dispatcher makes one `RequestContext` per request. Handlers
hold no state of their own, so that two brokers in one process (tests, simulations) never share any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from barnabas.client.controller_channel import ControllerChannel
    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig
    from barnabas.controller.controller import Controller
    from barnabas.coordinators.group_coordinator import GroupCoordinator
    from barnabas.coordinators.markers import LocalMarkers
    from barnabas.coordinators.transaction_coordinator import TransactionCoordinator
    from barnabas.coordinators.transaction_verifier import TransactionVerifier
    from barnabas.coordinators.transactional_offsets import TransactionalOffsets
    from barnabas.handlers.client_telemetry import ClientTelemetry
    from barnabas.handlers.refusals import RefusalLog
    from barnabas.log.log_directories import LogDirectories
    from barnabas.metadata.image import MetadataImage
    from barnabas.metrics import Registry
    from barnabas.network.context import ConnectionContext
    from barnabas.network.disk_readers import DiskReaders
    from barnabas.replication.directory_moves import DirectoryMoves
    from barnabas.replication.read_replicas import ReadReplicas
    from barnabas.replication.replicas import Replicas
    from barnabas.replication.replication_quota import ReplicationQuota
    from barnabas.replication.sessions import FetchSessions
    from barnabas.replication.waiting import Waiting

__all__ = ["BrokerServices", "RequestContext"]


@dataclass(slots=True, eq=False)
class BrokerServices:
    """The rooms of one broker that handlers may enter.

    Attributes:
        node_id: This broker's id (`node.id`).
        cluster_id: The cluster's id, 22 characters of URL-safe base64.
        config: Static and dynamic broker settings.
        clock: Wall and monotonic time.
        loop: The event loop that everything of this broker runs on.
        controller: Validates and writes changes of the cluster's metadata.
        channel: The way to the broker whose controller leads.
        broker_listener: The listener on which brokers ask each other, or None where there are no others.
        replicas: The partitions that this broker hosts.
        log_directories: The directories in which they lie.
        directory_moves: Moves partitions between them.
        group_coordinator: Consumer groups whose partition of `__consumer_offsets` this broker leads.
        transaction_coordinator: Transactional ids whose partition of `__transaction_state` this broker leads.
        transaction_verifier: Asks whether a partition belongs to a transaction.
        transactional_offsets: Offsets that are committed within transactions.
        local_markers: Writes the end markers of transactions into partitions that this broker leads.
        fetch_sessions: Incremental fetch sessions (KIP-227).
        client_telemetry: What clients are asked to measure, and what they answer.
        disk_readers: Threads that wait for disks in place of the loop.
        waiting: Fetches and produces that are parked until something happens or their time is up.
        metrics: Counters, gauges and histograms.
        leader_quota: Of what throttled followers are sent; None on a single node.
        read_replicas: Says which replica a consumer had better read from; None if always the leader.
        refusals: Writes why requests are refused.
        fetch_max_bytes: `fetch.max.bytes`, the most that one fetch gives.
        is_left_behind: Whether others lead in this broker's place, and its image does not know.
    """

    node_id: int
    cluster_id: str
    config: BrokerConfig
    clock: Clock
    loop: asyncio.AbstractEventLoop
    controller: Controller
    channel: ControllerChannel
    broker_listener: str | None
    replicas: Replicas
    log_directories: LogDirectories
    directory_moves: DirectoryMoves
    group_coordinator: GroupCoordinator
    transaction_coordinator: TransactionCoordinator
    transaction_verifier: TransactionVerifier
    transactional_offsets: TransactionalOffsets
    local_markers: LocalMarkers
    fetch_sessions: FetchSessions
    client_telemetry: ClientTelemetry
    disk_readers: DiskReaders
    waiting: Waiting
    metrics: Registry
    refusals: RefusalLog
    fetch_max_bytes: int
    leader_quota: ReplicationQuota | None = None
    read_replicas: ReadReplicas | None = None
    is_left_behind: Callable[[], bool] = lambda: False

    @property
    def image(self) -> MetadataImage:
        """What this broker knows of the cluster now; never changes once read, a later read may give a newer one."""
        return self.controller.image

    @property
    def asks_another_controller(self) -> bool:
        """Whether changes of metadata have to go to another broker."""
        return self.broker_listener is not None and not self.controller.is_leader

    def serves_brokers(self, connection: ConnectionContext) -> bool:
        """Whether other brokers may be at the other end of a connection."""
        return self.broker_listener is not None and connection.listener_name == self.broker_listener

    def log_refusal(self, context: RequestContext, subject: str, error: Exception) -> None:
        """Writes a log line that says why a request is refused, with the client's id."""
        self.refusals.write(context, subject, error)


@dataclass(slots=True, eq=False)
class RequestContext:
    """One request: its header, and the connection on which it came.

    Attributes:
        api_key: Which API (`wire.apis.APIS`).
        api_version: The version in which the request came and its answer leaves.
        correlation_id: The client's number for this request.
        client_id: The name that the client gives itself, if any.
        connection: Who is at the other end, and by which address this broker was reached.
        is_forwarded: Whether another broker took the request, and judged what concerns it alone.
    """

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    connection: ConnectionContext
    is_forwarded: bool = False
