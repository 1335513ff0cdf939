"""What keeps memory, files and time flat: everything that a client can make grow, what stops it, and what happens then.

`docs/reference/limits.md` is written from this table; a test looks up every key, constant and attribute that it names.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LIMITS", "Limit"]


class Limit(NamedTuple):
    """One thing that grows.

    Attributes:
        what: In the words of a user.
        by: Broker keys, or constants as `module:NAME` where nobody needs to set them, or another bound in words.
        at_the_limit: What a client meets.
        held_in: `module:Class.attribute` that holds it, or `module:function` that remembers it, for whoever looks for it in the source.
    """

    what: str
    by: tuple[str, ...]
    at_the_limit: str
    held_in: str


LIMITS: dict[str, tuple[Limit, ...]] = {
    "Connections": (
        Limit(
            "open connections",
            ("max.connections",),
            "New ones wait in the kernel.",
            "network.socket_server:SocketServer._channels",
        ),
        Limit(
            "connections of one address",
            ("max.connections.per.ip", "max.connections.per.ip.overrides"),
            "New ones are closed.",
            "network.connection_quotas:ConnectionQuotas._by_host",
        ),
        Limit(
            "connections on which nothing moves",
            ("connections.max.idle.ms",),
            "They are closed; a slow client that moves a byte now and then is not idle.",
            "network.channel:Channel.last_active_ms",
        ),
        Limit(
            "seconds until it is noticed that a client has gone behind unread requests",
            ("network.socket_server:SWEEP_INTERVAL_S_MAX",),
            "Its waiting requests are answered at once, and the connection closed.",
            "network.connection:Connection._is_hastened",
        ),
        Limit(
            "milliseconds that a connection may take to finish after its last request",
            ("network.socket_server:END_MS_MAX",),
            "It is closed.",
            "network.socket_server:SocketServer._ends",
        ),
    ),
    "Requests": (
        Limit(
            "bytes of a request",
            ("socket.request.max.bytes",),
            "The connection is closed. A length that is only claimed takes no memory.",
            "network.connection:Connection.unfinished",
        ),
        Limit(
            "bytes of all requests that are not there in full",
            ("queued.max.request.bytes",),
            "No connection begins another one until there is room.",
            "network.request_memory:RequestMemory.used_bytes",
        ),
        Limit(
            "bytes received ahead of what may be handled, for a connection",
            ("network.socket_server:SHARED_BUFFER_BYTES",),
            "It is not read.",
            "network.connection:Connection._backlog",
        ),
        Limit(
            "requests of a connection that wait for their answers",
            ("barnabas.pipelined.requests.per.connection",),
            "It is not read.",
            "network.connection:Connection._answers",
        ),
        Limit(
            "bytes of answers that the client has not read",
            ("barnabas.outgoing.bytes.per.connection",),
            "It is not read; no more of its requests are handled.",
            "network.connection:Connection.outgoing",
        ),
        Limit(
            "requests of a connection in one turn of the loop",
            ("network.connection:DISPATCHES_PER_TURN_MAX",),
            "The others wait one turn.",
            "network.connection:Connection._backlog",
        ),
        Limit(
            "bytes to one connection in one turn of the loop",
            ("network.channel:SENT_PER_TURN_BYTES_MAX",),
            "The others wait one turn.",
            "network.connection:Connection.outgoing",
        ),
        Limit(
            "buffers kept for the next long requests, in bytes",
            ("network.request_memory:KEPT_BYTES_MAX",),
            "They are given back.",
            "network.request_memory:RequestMemory._kept",
        ),
        Limit(
            "produce requests of a connection that are remembered",
            ("handlers.repeated_produce:REMEMBERED_MAX",),
            "Others are decoded each time.",
            "handlers.repeated_produce:RepeatedProduces._places",
        ),
        Limit(
            "fetches that wait",
            ("barnabas.pipelined.requests.per.connection", "max.connections"),
            "So many for each connection; they go with it.",
            "replication.waiting:Waiting._fetches",
        ),
        Limit(
            "reads from the disk at a time, of what is not in the page cache: of what is sent, and of what a search needs",
            ("network.disk_readers:THREADS_MAX",),
            "The others wait in a line, at most one for each request that waits; they leave it with their connection.",
            "network.disk_readers:DiskReaders._line",
        ),
        Limit(
            "acknowledgements that wait for a partition's other replicas",
            ("replication.leading:ABANDONED_MAX",),
            "Those whose request's time is up are forgotten: at the latest when there are so many of a partition, or twice as many as waited before.",
            "replication.leading:Leading._waiters",
        ),
        Limit(
            "bytes of records that wait to be packed anew, or for the coordinator of their transaction",
            ("barnabas.outgoing.bytes.per.connection",),
            "The connection is not read. They go with it.",
            "network.context:ConnectionContext.held_bytes",
        ),
        Limit(
            "fetch sessions",
            ("max.incremental.fetch.session.cache.slots",),
            "The oldest that is not used gives way, or the client sends whole requests.",
            "replication.sessions:FetchSessions._sessions",
        ),
        Limit(
            "bytes of a fetch's answer",
            ("fetch.max.bytes",),
            "The rest comes with the next one. Records go from file to socket, not through memory.",
            "handlers.services:BrokerServices.fetch_max_bytes",
        ),
    ),
    "Records": (
        Limit(
            "bytes of a batch",
            ("message.max.bytes",),
            "MESSAGE_TOO_LARGE; `max.message.bytes` of the topic comes first.",
            "replication.partition:Partition.log",
        ),
        Limit(
            "producers that a partition remembers",
            ("producer.id.expiration.ms",),
            "Those that wrote nothing for so long are forgotten. Their number has no limit, as in Kafka.",
            "log.producer_state:ProducerState._producers",
        ),
        Limit(
            "batches remembered for each producer",
            ("log.producer_entry:BATCHES_REMEMBERED",),
            "An older duplicate is OUT_OF_ORDER_SEQUENCE_NUMBER.",
            "log.producer_entry:ProducerEntry.batches",
        ),
        Limit(
            "newest batches of a partition whose places are in memory",
            ("log.segment:TAIL_BATCHES",),
            "Older ones are found through the index.",
            "log.segment:Segment._tail_positions",
        ),
        Limit(
            "index entries of the active segment in memory",
            ("log.index_file:WINDOW_ENTRIES",),
            "The older half is written.",
            "log.index_file:IndexFile._window",
        ),
        Limit(
            "open files",
            ("barnabas.open.files",),
            "The least recently used are closed, and opened again when needed.",
            "log.files:Files._open",
        ),
        Limit(
            "bytes of the metadata log between snapshots",
            ("metadata.log.max.record.bytes.between.snapshots",),
            "A snapshot is written, and what is before it deleted.",
            "controller.store.embedded:EmbeddedStore._log",
        ),
    ),
    "Groups and transactions": (
        Limit(
            "members of a group",
            ("group.max.size",),
            "GROUP_MAX_SIZE_REACHED",
            "coordinators.group.group:ClassicGroup.members",
        ),
        Limit(
            "ids given to members that have not joined yet",
            ("barnabas.pending.members.per.group", "group.max.session.timeout.ms"),
            "More are refused; they expire with the session timeout that the client asked for, which has a limit.",
            "coordinators.group.group:ClassicGroup.pending_members",
        ),
        Limit(
            "bytes of the name of a member, an instance or a client in a group",
            ("coordinators.group_coordinator:MEMBER_NAME_BYTES_MAX",),
            "INVALID_REQUEST",
            "coordinators.group.group:ClassicGroup.members",
        ),
        Limit(
            "bytes of the metadata of a committed offset",
            ("offset.metadata.max.bytes",),
            "OFFSET_METADATA_TOO_LARGE",
            "coordinators.group.offsets:OffsetTable._groups",
        ),
        Limit(
            "offsets of groups that nobody uses",
            ("offsets.retention.minutes",),
            "They expire, and an empty group with its last offset.",
            "coordinators.group.shard:GroupShard.groups",
        ),
        Limit(
            "transactional ids that nobody uses",
            ("transactional.id.expiration.ms",),
            "They are forgotten; their number has no limit, as in Kafka.",
            "coordinators.transaction.shard:TransactionShard.transactions",
        ),
        Limit(
            "milliseconds that a request waits for the end of what its transactional id is in",
            ("add.partitions.to.txn.retry.backoff.max.ms",),
            "CONCURRENT_TRANSACTIONS",
            "coordinators.transaction.transaction:Transaction.waiters",
        ),
        Limit(
            "keys of group records that are kept decoded",
            ("coordinators.group.records:KEYS_REMEMBERED_MAX",),
            "The one that was not used longest is decoded anew when it comes again.",
            "coordinators.group.records:decode_key",
        ),
        Limit(
            "groups and transactional ids whose partition is remembered",
            ("coordinators.partitioning:NAMES_REMEMBERED_MAX",),
            "The one that was not used longest is hashed anew when it comes again.",
            "coordinators.partitioning:partition_for",
        ),
    ),
    "Administration": (
        Limit(
            "partitions made by one request",
            ("controller.topics:PARTITIONS_MAX",),
            "It is refused, as by Kafka. The number of topics has no limit: who may create them may fill the disk, too.",
            "controller.controller:Controller._newest",
        ),
        Limit(
            "changes of metadata that wait for the metadata log",
            ("controller.controller:CHANGES_WAITING_MAX",),
            "Those of clients are refused with REQUEST_TIMED_OUT, and do not come to pass. Brokers make few of their own.",
            "controller.controller:Controller._pending",
        ),
        Limit(
            "requests that wait for a topic that others have just asked for",
            ("controller.controller:AWAITING_OTHERS_MAX",),
            "They are answered at once, as while there is no such topic; clients try again.",
            "controller.controller:Controller._awaiting_others",
        ),
        Limit(
            "requests that wait for a producer id",
            ("controller.producer_ids:WAITING_MAX",),
            "COORDINATOR_LOAD_IN_PROGRESS",
            "controller.producer_ids:ProducerIdSource._waiting",
        ),
        Limit(
            "names of deleted partitions that are not on the disk yet",
            ("log.log_directory:RENAMED_MAX",),
            "The log directory is synced, which serves all of them.",
            "log.log_directory:LogDirectory._renamed",
        ),
        Limit(
            "partitions in the answer to DescribeTopicPartitions",
            ("max.request.partition.size.limit",),
            "The answer ends with a cursor.",
            "handlers.services:BrokerServices.config",
        ),
        Limit(
            "threads that sync and delete files",
            ("barnabas.worker.threads",),
            "The work waits.",
            "log.group_commit:GroupCommit._threads",
        ),
        Limit(
            "connections to the metrics",
            ("network.metrics_endpoint:CONNECTIONS_MAX",),
            "New ones are closed.",
            "network.metrics_endpoint:MetricsEndpoint._scrapes",
        ),
        Limit(
            "clients that push metrics",
            ("handlers.client_telemetry:INSTANCES_MAX",),
            "The one that was silent longest is forgotten.",
            "handlers.client_telemetry:ClientTelemetry._instances",
        ),
        Limit(
            "numbers pushed by clients",
            ("barnabas.client.metrics.max.series",),
            "More are dropped, and counted.",
            "handlers.client_metrics_store:ClientMetricsStore._count",
        ),
        Limit(
            "fields in one push of metrics, of which one is read at a time",
            ("wire.otlp:FIELDS_MAX",),
            "It is refused with INVALID_RECORD.",
            "handlers.client_telemetry:ClientTelemetry._decoding",
        ),
    ),
}
"""By concern."""
