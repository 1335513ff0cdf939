"""What clients are asked to measure, and what they answer (KIP-714).

A client asks what is wanted of it (GetTelemetrySubscriptions) and then pushes that (PushTelemetry), each time after the interval
that it was told. What is wanted stands in the settings of CLIENT_METRICS resources: which metrics, how often, of which clients.
A client is known from its first request until its connection ends, or it is silent for too long, or too many others came.

Metrics are received where there is somewhere for them to go: while `barnabas.metrics.port` is set. Then the APIs are announced, as
Kafka announces them while a plugin receives metrics. Otherwise requests are answered all the same, and what is pushed is dropped.

Rules: `ClientMetricsManager` and `ClientMetricsInstance` of Apache Kafka 4.3.
"""

from __future__ import annotations

import re
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from barnabas.controller.client_metrics import CLIENT_METRICS_DEFAULTS
from barnabas.errors import DecodeError, ErrorCode, KafkaError
from barnabas.handlers.client_metrics_store import ClientMetricsStore
from barnabas.metadata.identifiers import ZERO_ID, ResourceType
from barnabas.records.checksum import crc32c
from barnabas.records.compression import Codec, decompress_apart
from barnabas.wire.otlp import decode_metrics
from barnabas.wire.primitives import random_uuid, uuid_to_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig
    from barnabas.metadata.image import MetadataImage
    from barnabas.metrics import Family, Registry
    from barnabas.network.context import ConnectionContext
    from barnabas.wire.otlp import Point

__all__ = ["ACCEPTED_COMPRESSION", "INSTANCES_MAX", "ClientTelemetry", "Subscription"]

INSTANCES_MAX = 16_384
"""Clients that are known at a time; those that were silent longest make room (Kafka's constant)."""

ACCEPTED_COMPRESSION = (Codec.ZSTD, Codec.LZ4, Codec.GZIP, Codec.SNAPPY)
"""In the order in which clients are to prefer them."""

_EXPIRY_LEAST_MS = 60_000
_EXPIRE_EVERY_MS = 10_000
_EXPANSION_MAX = 16
_RESERVED_IDS = 2
_ALL = "*"
_ids = struct.Struct(">qq").unpack


class Subscription(NamedTuple):
    """What some clients are asked for: the settings of one CLIENT_METRICS resource."""

    metrics: frozenset[str]
    interval_ms: int
    match: Mapping[str, re.Pattern[str]]

    def is_for(self, client: Mapping[str, str]) -> bool:
        """Whether a client with these properties is meant; without patterns everybody is."""
        return all(
            name in client and pattern.fullmatch(client[name]) is not None
            for name, pattern in self.match.items()
        )


class _Instance:
    """A client as it was when it first asked, and since the subscriptions last changed."""

    __slots__ = (
        "connection",
        "expires_ms",
        "interval_ms",
        "is_terminating",
        "last_get_ms",
        "last_push_ms",
        "metrics",
        "properties",
        "subscription_id",
        "version",
    )

    def __init__(
        self,
        properties: Mapping[str, str],
        metrics: list[str],
        interval_ms: int,
        subscription_id: int,
        version: int,
    ) -> None:
        self.properties = properties
        self.metrics = metrics
        self.interval_ms = interval_ms
        self.subscription_id = subscription_id
        self.version = version
        self.last_get_ms = self.last_push_ms = 0
        self.is_terminating = False
        self.expires_ms = 0
        self.connection: ConnectionContext | None = None


class Wanted(NamedTuple):
    """The answer to a client that asks what to measure."""

    client_instance_id: bytes
    subscription_id: int
    metrics: list[str]
    interval_ms: int
    max_bytes: int


class ClientTelemetry:
    """Clients and their subscriptions at one broker; see the module.

    Args:
        clock: Wall-clock time.
        config: `telemetry.max.bytes` and where metrics go.
    """

    __slots__ = (
        "_clock",
        "_config",
        "_decoding",
        "_expired_ms",
        "_instances",
        "_subscriptions",
        "_version",
        "errors",
        "store",
        "throttled",
        "unknown_subscriptions",
    )

    def __init__(self, clock: Clock, config: BrokerConfig) -> None:
        self._clock = clock
        self._config = config
        self._subscriptions: dict[str, Subscription] = {}
        self._version = 0
        self._instances: dict[bytes, _Instance] = {}
        self._expired_ms = 0
        self._decoding: ThreadPoolExecutor | None = None
        self.store = ClientMetricsStore(config["barnabas.client.metrics.max.series"])
        self.throttled = self.unknown_subscriptions = self.errors = 0

    @property
    def is_received(self) -> bool:
        """Whether metrics go anywhere."""
        return bool(self._config["barnabas.metrics.port"] >= 0)

    @property
    def decoding(self) -> ThreadPoolExecutor:
        """The thread in which pushes are decoded, one after another: memory for what they unpack to is needed once."""
        if self._decoding is None:
            self._decoding = ThreadPoolExecutor(1, "client-telemetry")
        return self._decoding

    def register_metrics(self, registry: Registry) -> None:
        """Shows what clients have pushed, and what Kafka's `client-metrics` shows."""
        prefix = "kafka_server_client_metrics_"
        registry.gauge_function(prefix + "instance_count", lambda: len(self._instances))
        registry.listed(prefix + "throttle_count", lambda: [((), self.throttled)])
        registry.listed(
            prefix + "unknown_subscription_request_count", lambda: [((), self.unknown_subscriptions)]
        )
        registry.listed(prefix + "plugin_error_count", lambda: [((), self.errors)])
        registry.gauge_function("kafka_server_client_metrics_series", lambda: len(self.store))
        registry.listed("kafka_server_client_metrics_dropped_total", lambda: [((), self.store.dropped)])

        def families() -> list[Family]:
            self._expire(self._clock.now_ms())
            return self.store.families()

        registry.collected(families)

    # ----- subscriptions

    def configure(self, image: MetadataImage) -> None:
        """Takes over the settings of all subscriptions; clients are told with their next request."""
        self._version += 1
        self._subscriptions = {
            name: _subscription(settings)
            for (kind, name), settings in image.configs.items()
            if kind == ResourceType.CLIENT_METRICS and settings
        }

    # ----- requests

    def subscribe(
        self, client_instance_id: bytes, client_id: str | None, connection: ConnectionContext
    ) -> Wanted:
        """What a client is to measure; one without an id gets one.

        Raises:
            KafkaError: THROTTLING_QUOTA_EXCEEDED when it asks again before its interval is over.
        """
        if client_instance_id == ZERO_ID:
            client_instance_id = random_uuid()
        now_ms = self._clock.now_ms()
        instance = self._instance(client_instance_id, client_id, connection, now_ms)
        if now_ms - max(instance.last_get_ms, instance.last_push_ms) < instance.interval_ms:
            self.throttled += 1
            raise KafkaError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, "the push interval is not over")
        instance.last_get_ms = now_ms
        return Wanted(
            client_instance_id,
            instance.subscription_id,
            instance.metrics,
            instance.interval_ms,
            self._config["telemetry.max.bytes"],
        )

    def check_push(
        self,
        client_instance_id: bytes,
        client_id: str | None,
        connection: ConnectionContext,
        *,
        subscription_id: int,
        compression: int,
        size_bytes: int,
        is_terminating: bool,
    ) -> None:
        """Judges a push before anybody looks into it.

        Raises:
            KafkaError: INVALID_REQUEST for reserved ids and after the last push, THROTTLING_QUOTA_EXCEEDED,
                UNKNOWN_SUBSCRIPTION_ID, UNSUPPORTED_COMPRESSION_TYPE or TELEMETRY_TOO_LARGE.
        """
        if int.from_bytes(client_instance_id, "big") < _RESERVED_IDS:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "the client instance id is reserved")
        now_ms = self._clock.now_ms()
        instance = self._instance(client_instance_id, client_id, connection, now_ms)
        try:
            self._check(
                instance, now_ms, subscription_id, compression, size_bytes, is_terminating=is_terminating
            )
        finally:
            instance.is_terminating = is_terminating

    def _check(
        self,
        instance: _Instance,
        now_ms: int,
        subscription_id: int,
        compression: int,
        size_bytes: int,
        *,
        is_terminating: bool,
    ) -> None:
        if instance.is_terminating:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "the client has said that it ends")
        # Who has just asked may push at once: clients spread their pushes over the interval.
        may_push = (
            instance.last_get_ms > instance.last_push_ms
            or now_ms - instance.last_push_ms >= instance.interval_ms
        )
        if may_push:
            instance.last_push_ms = now_ms
        elif not is_terminating:
            self.throttled += 1
            raise KafkaError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, "the push interval is not over")
        if subscription_id != instance.subscription_id:
            self.unknown_subscriptions += 1
            raise KafkaError(ErrorCode.UNKNOWN_SUBSCRIPTION_ID, "the subscriptions have changed")
        if compression not in Codec.__members__.values():
            raise KafkaError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"unknown compression {compression}")
        if size_bytes > self._config["telemetry.max.bytes"]:
            raise KafkaError(ErrorCode.TELEMETRY_TOO_LARGE, f"{size_bytes} bytes of metrics are too many")

    def decode(self, compression: int, metrics: bytes) -> list[Point]:
        """The numbers in a push; for a worker thread.

        Raises:
            KafkaError: INVALID_RECORD, it cannot be read.
        """
        try:
            limit_bytes = _EXPANSION_MAX * self._config["telemetry.max.bytes"]
            data = decompress_apart(compression, metrics, limit_bytes)
            # One more than there is room for, so that it is counted as dropped.
            return decode_metrics(data, self.store.max_series + 1) if self.is_received else []
        except (DecodeError, KafkaError) as error:
            raise KafkaError(ErrorCode.INVALID_RECORD, f"the metrics cannot be read: {error}") from error

    def record(self, client_instance_id: bytes, points: list[Point]) -> None:
        """Keeps the numbers of a client that `check_push` let pass."""
        instance = self._instances.get(client_instance_id)
        if instance is None:
            return  # its connection ended meanwhile
        self.store.record(client_instance_id, _labels(instance.properties), points, instance.expires_ms)

    # ----- clients

    def _instance(
        self, client_instance_id: bytes, client_id: str | None, connection: ConnectionContext, now_ms: int
    ) -> _Instance:
        self._expire(now_ms)
        instances = self._instances
        instance = instances.pop(client_instance_id, None)
        if instance is not None and instance.connection is not None and instance.connection.is_closed:
            instance = None  # who comes back is another one
        if instance is None or instance.version < self._version:
            properties = (
                _properties(client_instance_id, client_id, connection)
                if instance is None
                else instance.properties
            )
            instance = self._new_instance(client_instance_id, properties)
            instance.connection = connection
        while len(instances) >= INSTANCES_MAX:
            del instances[next(iter(instances))]
        instances[client_instance_id] = instance
        instance.expires_ms = now_ms + max(_EXPIRY_LEAST_MS, 3 * instance.interval_ms)
        return instance

    def _new_instance(self, client_instance_id: bytes, properties: Mapping[str, str]) -> _Instance:
        wanted: set[str] = set()
        interval_ms = int(CLIENT_METRICS_DEFAULTS["interval.ms"][0])
        for subscription in self._subscriptions.values():
            if subscription.is_for(properties):
                wanted |= subscription.metrics
                interval_ms = min(interval_ms, subscription.interval_ms)
        metrics = [_ALL] if _ALL in wanted else sorted(wanted)
        checksum = crc32c(f"[{', '.join(metrics)}]{interval_ms}".encode())
        high, low = _ids(client_instance_id)
        mixed = (high ^ low) & 0xFFFF_FFFF_FFFF_FFFF
        subscription_id = (checksum ^ (mixed >> 32) ^ mixed) & 0xFFFF_FFFF
        return _Instance(
            properties,
            metrics,
            interval_ms,
            subscription_id - (1 << 32) if subscription_id >> 31 else subscription_id,
            self._version,
        )

    def _expire(self, now_ms: int) -> None:
        if 0 <= now_ms - self._expired_ms < _EXPIRE_EVERY_MS:
            return
        self._expired_ms = now_ms
        for client_instance_id, instance in list(self._instances.items()):
            if instance.expires_ms <= now_ms or (instance.connection and instance.connection.is_closed):
                del self._instances[client_instance_id]
        self.store.expire(now_ms)


def _subscription(settings: Mapping[str, str]) -> Subscription:
    def texts(name: str) -> list[str]:
        text = settings.get(name, CLIENT_METRICS_DEFAULTS[name][0])
        return [part.strip() for part in text.split(",") if part.strip()]

    match = {}
    for pattern in texts("match"):
        name, _, expression = pattern.partition("=")
        match[name.strip()] = re.compile(expression.strip())
    interval_ms = int(settings.get("interval.ms", CLIENT_METRICS_DEFAULTS["interval.ms"][0]))
    return Subscription(frozenset(texts("metrics")), interval_ms, match)


def _properties(
    client_instance_id: bytes, client_id: str | None, connection: ConnectionContext
) -> dict[str, str]:
    """What subscriptions may be bound to, under the names of the setting `match`."""
    host, port = connection.client_address
    properties = {
        "client_instance_id": uuid_to_text(client_instance_id),
        "client_software_name": connection.client_software_name,
        "client_software_version": connection.client_software_version,
        "client_source_address": host,
        "client_source_port": str(port),
    }
    if client_id is not None:
        properties["client_id"] = client_id
    return properties


def _labels(properties: Mapping[str, str]) -> dict[str, str]:
    return {name: text[:200] for name, text in properties.items() if name != "client_source_port"}
