"""Which APIs are served in which versions, and how a frame finds its handler.

`Dispatcher` is what the network calls for each request: it reads the header, decodes the body, calls the handler in arrival
order (phase one) and encodes the answer when it is there (phase two). A handler's module, and with it its messages, is
imported when the first request of its API comes, which keeps the start short.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.errors import CloseConnection, DecodeError, KafkaError
from barnabas.handlers.services import BrokerServices, RequestContext
from barnabas.metrics import Counter
from barnabas.network.context import ConnectionContext
from barnabas.network.parked import Parked
from barnabas.wire.apis import APIS
from barnabas.wire.headers import decode_request_header, encode_response_header
from barnabas.wire.message import RecordsMessage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from barnabas.metrics import Registry
    from barnabas.network.parked import Answer, Encoded
    from barnabas.wire.message import Message

__all__ = ["BETWEEN_BROKERS", "HANDLERS", "Dispatcher", "HandlerEntry", "announced_versions"]

logger = logging.getLogger(__name__)

API_VERSIONS = 18
_PRODUCE = 0
_FETCH = 1
_WAIT_FOR_OTHERS = frozenset(
    (11, 14)
)  # JoinGroup and SyncGroup: nobody answers them once their client is gone
_ONLY_READ = frozenset((_FETCH, 2, 35))  # ListOffsets and DescribeLogDirs, which may wait for a disk, too

_OWN_CONNECTION = ConnectionContext(
    connection_id="this broker", client_address=("", 0), local_address=("", 0), listener_name=""
)
"""Where a broker's requests to itself come from."""


class HandlerEntry(NamedTuple):
    """One served API: its module in this room and the versions that it takes and announces.

    `announced_min` is lower than `min_version` where clients look for a version that they never send. `is_forwarded`: the
    controller has to answer it, and any broker takes it (`forwarding.py`).
    """

    module: str
    min_version: int
    max_version: int
    announced_min: int | None = None
    is_forwarded: bool = False


HANDLERS: dict[int, HandlerEntry] = {
    0: HandlerEntry("produce", 3, 13, announced_min=0),
    1: HandlerEntry("fetch", 4, 18),
    2: HandlerEntry("list_offsets", 0, 11),
    3: HandlerEntry("metadata", 0, 13),
    8: HandlerEntry("offset_commit", 0, 10),
    9: HandlerEntry("offset_fetch", 0, 10),
    10: HandlerEntry("find_coordinator", 0, 6),
    11: HandlerEntry("join_group", 0, 9),
    12: HandlerEntry("heartbeat", 0, 4),
    13: HandlerEntry("leave_group", 0, 5),
    14: HandlerEntry("sync_group", 0, 5),
    15: HandlerEntry("describe_groups", 0, 6),
    16: HandlerEntry("list_groups", 0, 5),
    17: HandlerEntry("sasl_handshake", 0, 1),
    18: HandlerEntry("api_versions", 0, 4),
    19: HandlerEntry("create_topics", 0, 7, is_forwarded=True),
    20: HandlerEntry("delete_topics", 0, 6, is_forwarded=True),
    21: HandlerEntry("delete_records", 0, 2),
    22: HandlerEntry("init_producer_id", 0, 5),
    23: HandlerEntry("offset_for_leader_epoch", 0, 4),
    24: HandlerEntry("add_partitions_to_txn", 0, 5),
    25: HandlerEntry("add_offsets_to_txn", 0, 4),
    26: HandlerEntry("end_txn", 0, 5),
    27: HandlerEntry("write_txn_markers", 0, 2),
    28: HandlerEntry("txn_offset_commit", 0, 5),
    29: HandlerEntry("describe_acls", 0, 3),
    30: HandlerEntry("create_acls", 0, 3),
    31: HandlerEntry("delete_acls", 0, 3),
    32: HandlerEntry("describe_configs", 0, 4),
    33: HandlerEntry("alter_configs", 0, 2),
    34: HandlerEntry("alter_replica_log_dirs", 0, 2),
    35: HandlerEntry("describe_log_dirs", 0, 5),
    36: HandlerEntry("sasl_authenticate", 0, 2),
    37: HandlerEntry("create_partitions", 0, 3, is_forwarded=True),
    38: HandlerEntry("create_delegation_token", 0, 3),
    39: HandlerEntry("renew_delegation_token", 0, 2),
    40: HandlerEntry("expire_delegation_token", 0, 2),
    41: HandlerEntry("describe_delegation_token", 0, 3),
    42: HandlerEntry("delete_groups", 0, 2),
    43: HandlerEntry("elect_leaders", 0, 2, is_forwarded=True),
    44: HandlerEntry("incremental_alter_configs", 0, 1),
    45: HandlerEntry("alter_partition_reassignments", 0, 1, is_forwarded=True),
    46: HandlerEntry("list_partition_reassignments", 0, 0),
    47: HandlerEntry("offset_delete", 0, 0),
    48: HandlerEntry("describe_client_quotas", 0, 1),
    49: HandlerEntry("alter_client_quotas", 0, 1, is_forwarded=True),
    50: HandlerEntry("describe_user_scram_credentials", 0, 0),
    51: HandlerEntry("alter_user_scram_credentials", 0, 0, is_forwarded=True),
    55: HandlerEntry("describe_quorum", 0, 2),
    57: HandlerEntry("update_features", 0, 2, is_forwarded=True),
    60: HandlerEntry("describe_cluster", 0, 2),
    61: HandlerEntry("describe_producers", 0, 0),
    64: HandlerEntry("unregister_broker", 0, 0, is_forwarded=True),
    65: HandlerEntry("describe_transactions", 0, 0),
    66: HandlerEntry("list_transactions", 0, 2),
    68: HandlerEntry("consumer_group_heartbeat", 0, 1),
    69: HandlerEntry("consumer_group_describe", 0, 1),
    71: HandlerEntry("get_telemetry_subscriptions", 0, 0),
    72: HandlerEntry("push_telemetry", 0, 0),
    74: HandlerEntry("list_config_resources", 0, 1),
    75: HandlerEntry("describe_topic_partitions", 0, 0),
    80: HandlerEntry("add_raft_voter", 0, 1),
    81: HandlerEntry("remove_raft_voter", 0, 0),
}
"""API key -> what serves it. An API that is not here is absent from ApiVersions too."""

BETWEEN_BROKERS: dict[int, HandlerEntry] = {
    56: HandlerEntry("alter_partition", 2, 3),
    58: HandlerEntry("envelope", 0, 0),
    63: HandlerEntry("broker_heartbeat", 0, 2),
    67: HandlerEntry("allocate_producer_ids", 0, 0),
    73: HandlerEntry("assign_replicas_to_dirs", 0, 0),
}
"""What brokers of a cluster ask of each other, on their listener (`inter.broker.listener.name`). Clients are not told of it."""


def announced_versions(*, between_brokers: bool = False) -> dict[int, tuple[int, int]]:
    """API key -> (lowest, highest) version as ApiVersions tells them."""
    served = HANDLERS | BETWEEN_BROKERS if between_brokers else HANDLERS
    return {
        key: (entry.min_version if entry.announced_min is None else entry.announced_min, entry.max_version)
        for key, entry in served.items()
    }


class _Loaded(NamedTuple):
    """A handler whose module is imported. `response_class` is what it answers, unless it answers later."""

    handle: Callable[[BrokerServices, RequestContext, Any], Any]
    decode: Callable[[memoryview, int, int], Any]
    response_class: type[Any]
    chunks: bool
    min_version: int
    max_version: int


class Dispatcher:
    """Takes the frames of all connections of one broker.

    What goes wrong: a frame that does not parse raises DecodeError and a request that Kafka answers by hanging up raises
    CloseConnection (the connection is closed); anything unforeseen is logged with its traceback and closes the connection,
    because only the handler of an API knows the shape of its error answer.
    """

    __slots__ = ("_broker", "_loaded", "_tasks", "request_counts")

    def __init__(self, broker: BrokerServices) -> None:
        self._broker = broker
        self._loaded: dict[int, _Loaded] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.request_counts: dict[tuple[int, int], Counter] = {}

    def dispatch(self, connection: ConnectionContext, frame: memoryview) -> Answer:
        """Phase one of a request; see `network.connection` for what may be returned."""
        repeated = connection.repeated_produces
        if repeated is not None:
            repetition = repeated.answer(connection, frame)
            if repetition is not None:
                repeated.request_count.value += 1
                if type(repetition) is tuple:
                    context, response = repetition
                    return _encode(context, self._loaded[_PRODUCE], response)
                return repetition  # type: ignore[no-any-return] # the network knows nothing of what it keeps for us
        header, position = decode_request_header(frame)
        key = header.api_key
        version = header.api_version
        loaded = self._loaded.get(key)
        if loaded is None:
            loaded = self._load(key, version, connection)
        if not loaded.min_version <= version <= loaded.max_version:
            if key == API_VERSIONS:
                return self._unsupported_api_versions(header.correlation_id)
            raise CloseConnection(f"{APIS[key].name} version {version} is not served")
        count = self.request_counts.get((key, version))
        if count is None:
            count = self.request_counts[key, version] = Counter()
        count.value += 1
        request = loaded.decode(frame, version, position)
        context = RequestContext(key, version, header.correlation_id, header.client_id, connection)
        answer = loaded.handle(self._broker, context, request)
        if key == _PRODUCE:
            self._remember(context, frame, request, answer)
        return None if answer is None else self._answer(context, loaded, answer)

    def _answer(self, context: RequestContext, loaded: _Loaded, answer: Any) -> Answer:
        if type(answer) is not loaded.response_class and hasattr(answer, "__await__"):
            return self._park(context, loaded, answer)
        return _encode(context, loaded, answer)

    def _remember(self, context: RequestContext, frame: memoryview, request: Any, answer: Any) -> None:
        """Notes a produce request, in case that its client repeats itself."""
        if answer is None:
            return
        repeated = context.connection.repeated_produces
        if repeated is None:
            from barnabas.handlers.repeated_produce import RepeatedProduces

            repeated = RepeatedProduces(
                self._broker, context.api_version, self.request_counts[_PRODUCE, context.api_version]
            )
            context.connection.repeated_produces = repeated
        if repeated.version == context.api_version:
            repeated.remember(frame, context.client_id, request)

    def register_metrics(self, registry: Registry) -> None:
        """Shows how many requests there were, by API and version."""
        registry.listed(
            "kafka_network_requestmetrics_requests_total",
            lambda: [
                ((APIS[key].name, str(version)), count.value)
                for (key, version), count in self.request_counts.items()
            ],
        )

    def cancel(self) -> None:
        """Cancels what handlers still do; the broker stops."""
        for task in list(self._tasks):
            task.cancel()

    def call(self, request: Message) -> Any:
        """This broker's own answer to a request of its own between brokers, or a future of it."""
        key = request.API_KEY
        loaded = self._loaded.get(key) or self._import(key, HANDLERS.get(key) or BETWEEN_BROKERS[key])
        context = RequestContext(
            key, loaded.max_version, 0, f"broker-{self._broker.node_id}", _OWN_CONNECTION
        )
        return loaded.handle(self._broker, context, request)

    def _load(self, key: int, version: int, connection: ConnectionContext) -> _Loaded:
        entry = HANDLERS.get(key)
        if entry is not None:
            self._loaded[key] = loaded = self._import(key, entry)
            return loaded
        entry = BETWEEN_BROKERS.get(key)
        # Not kept: whether it is served depends on where it comes from.
        if entry is not None and self._broker.serves_brokers(connection):
            return self._import(key, entry)
        name = APIS[key].name if key in APIS else f"API key {key}"
        raise CloseConnection(f"{name} version {version} is not served")

    def _import(self, key: int, entry: HandlerEntry) -> _Loaded:
        module = importlib.import_module(f"barnabas.handlers.{entry.module}")
        api = APIS[key]
        handle = module.handle
        if entry.is_forwarded:
            from barnabas.handlers.forwarding import forwarded

            handle = forwarded(handle)
        return _Loaded(
            handle=handle,
            decode=api.request_class.decode,
            response_class=api.response_class,
            chunks=issubclass(api.response_class, RecordsMessage),
            min_version=entry.min_version,
            max_version=entry.max_version,
        )

    def _unsupported_api_versions(self, correlation_id: int) -> bytes:
        from barnabas.handlers.api_versions import unsupported_version_response

        return encode_response_header(
            API_VERSIONS, 0, correlation_id
        ) + unsupported_version_response().encode(0)

    def _park(self, context: RequestContext, loaded: _Loaded, answer: Awaitable[Any]) -> Parked:
        if isinstance(answer, asyncio.Future):
            future: asyncio.Future[Any] = answer
        else:
            task: asyncio.Task[Any] = self._broker.loop.create_task(
                answer,  # type: ignore[arg-type]  # a handler's awaitable is a future or a coroutine
                name=f"{APIS[context.api_key].name} of {context.client_id}",
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            future = task
        cut_short = abandon = None
        if context.api_key == _FETCH:
            cut_short = functools.partial(self._broker.waiting.cut_short, future)
        elif context.api_key in _WAIT_FOR_OTHERS:
            cut_short = functools.partial(_cancel, future)
        if context.api_key in _ONLY_READ:
            abandon = functools.partial(_cancel, future)
        return Parked(future, functools.partial(_encode_parked, context, loaded), cut_short, abandon)


def _encode(context: RequestContext, loaded: _Loaded, response: Any) -> Encoded:
    header = encode_response_header(context.api_key, context.api_version, context.correlation_id)
    if loaded.chunks:
        return [header, *response.encode_chunks(context.api_version)]
    return header + response.encode(context.api_version)  # type: ignore[no-any-return]


def _encode_parked(context: RequestContext, loaded: _Loaded, future: asyncio.Future[Any]) -> Encoded:
    if future.cancelled():
        raise CloseConnection("the broker stops")
    error = future.exception()
    if error is not None:
        if isinstance(error, (KafkaError, DecodeError)):
            raise CloseConnection(f"{APIS[context.api_key].name} failed: {error}") from error
        raise error
    response = future.result()
    return None if response is None else _encode(context, loaded, response)


def _cancel(future: asyncio.Future[Any]) -> None:
    future.cancel()
