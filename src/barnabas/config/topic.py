"""Topic keys, and `LogConfig`: what one partition log goes by.

A topic's value is its own override, or the broker's value of the key's synonym (`retention.ms` falls back on
`log.retention.ms`), or the default. Names, types, ranges and synonyms: `LogConfig` and `ServerTopicConfigSynonyms` of
Apache Kafka 4.3.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from barnabas.config.definition import (
    BOOLEAN,
    DOUBLE,
    INT,
    LIST,
    LONG,
    LONG_MAX,
    MEDIUM,
    STRING,
    ConfigKey,
    Validator,
    at_least,
    between,
    list_of,
    one_of,
)
from barnabas.config.keys.tiered import local_retention_complaint
from barnabas.errors import ConfigError, ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.config.broker import BrokerConfig

__all__ = [
    "TOPIC_KEYS",
    "TOPIC_SYNONYMS",
    "LogConfig",
    "LogConfigs",
    "ProduceLimits",
    "log_config",
    "typed_topic_configs",
    "validate_topic_config",
    "validate_topic_configs",
]

_LOG_CONFIGS_MAX = 1000


def _throttled_replicas() -> Validator:
    """`*`, or partition:broker pairs."""

    def complaint(name: str, value: tuple[str, ...]) -> str | None:
        if value == ("*",):
            return None
        for replica in value:
            partition, colon, broker = replica.partition(":")
            if replica and not (colon and partition.isdecimal() and broker.isdecimal()):
                return (
                    f"Invalid value [{', '.join(value)}] for configuration {name}: {name} must be the literal '*' or a "
                    "list of replicas in the following format: "
                    "[partitionId]:[brokerId],[partitionId]:[brokerId],..."
                )
        return None

    return Validator("* or [partition]:[broker],...", complaint)


# fmt: off
_KEYS = (
    ConfigKey("segment.bytes", INT, 1_073_741_824, MEDIUM,
      "Size at which a segment is closed and the next one begins.",
      at_least(1_048_576)),
    ConfigKey("segment.ms", LONG, 604_800_000, MEDIUM,
      "Age at which a segment is closed even when it is not full, so that retention can reach it.",
      at_least(1)),
    ConfigKey("segment.jitter.ms", LONG, 0, MEDIUM,
      "Random time taken off segment.ms, so that many logs do not roll together.",
      at_least(0)),
    ConfigKey("segment.index.bytes", INT, 10_485_760, MEDIUM,
      "Size of a segment's offset index at most; a full index rolls the segment.",
      at_least(4)),
    ConfigKey("flush.messages", LONG, LONG_MAX, MEDIUM,
      "Records after which a log is synced to disk.",
      at_least(1)),
    ConfigKey("flush.ms", LONG, LONG_MAX, MEDIUM,
      "Time after which a log with unsynced records is synced to disk.",
      at_least(0)),
    ConfigKey("retention.bytes", LONG, -1, MEDIUM,
      "Size of a partition beyond which its oldest segments are deleted; -1 sets no limit."),
    ConfigKey("retention.ms", LONG, 604_800_000, MEDIUM,
      "Age of a segment's newest record at which it is deleted; -1 sets no limit.",
      at_least(-1)),
    ConfigKey("max.message.bytes", INT, 1_048_588, MEDIUM,
      "Size of one record batch (compressed, if it is) at most.",
      at_least(0)),
    ConfigKey("index.interval.bytes", INT, 4096, MEDIUM,
      "Bytes of log between two entries of the sparse indexes.",
      at_least(0)),
    ConfigKey("delete.retention.ms", LONG, 86_400_000, MEDIUM,
      "Time for which a compacted log keeps tombstones.",
      at_least(0)),
    ConfigKey("min.compaction.lag.ms", LONG, 0, MEDIUM,
      "Age that a record of a compacted log reaches before it may be compacted away.",
      at_least(0)),
    ConfigKey("max.compaction.lag.ms", LONG, LONG_MAX, MEDIUM,
      "Age by which a record of a compacted log becomes eligible for compaction.",
      at_least(1)),
    ConfigKey("file.delete.delay.ms", LONG, 60_000, MEDIUM,
      "Time between the removal of a segment from its log and the deletion of its files.",
      at_least(0)),
    ConfigKey("min.cleanable.dirty.ratio", DOUBLE, 0.5, MEDIUM,
      "Share of uncompacted bytes in a log at which the cleaner takes it on.",
      between(0, 1)),
    ConfigKey("cleanup.policy", LIST, ("delete",), MEDIUM,
      "What becomes of old records: delete (by retention), compact (the newest of each key stays), "
      "both, or nothing when empty.",
      list_of("compact", "delete", empty_allowed=True)),
    ConfigKey("unclean.leader.election.enable", BOOLEAN, False, MEDIUM,
      "Whether a replica that is not in sync may lead when no other can, at the price of acknowledged records."),
    ConfigKey("min.insync.replicas", INT, 1, MEDIUM,
      "In-sync replicas without which a produce request with acks=all is refused.",
      at_least(1)),
    ConfigKey("compression.type", STRING, "producer", MEDIUM,
      "Codec that records are stored in; producer keeps them as they came.",
      one_of("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")),
    ConfigKey("compression.gzip.level", INT, -1, MEDIUM,
      "Level at which gzip compresses when compression.type asks for it; -1 is the codec's own.",
      between(1, 9, or_else=-1)),
    ConfigKey("compression.lz4.level", INT, 9, MEDIUM,
      "Level at which lz4 compresses when compression.type asks for it.",
      between(1, 17)),
    ConfigKey("compression.zstd.level", INT, 3, MEDIUM,
      "Level at which zstd compresses when compression.type asks for it.",
      between(-131_072, 22)),
    ConfigKey("preallocate", BOOLEAN, False, MEDIUM,
      "Whether a new segment's file gets room for its full size on disk at once; on Linux only."),
    ConfigKey("message.timestamp.type", STRING, "CreateTime", MEDIUM,
      "Whose clock stamps a record: the producer's (CreateTime) or the broker's (LogAppendTime).",
      one_of("CreateTime", "LogAppendTime")),
    ConfigKey("message.timestamp.before.max.ms", LONG, LONG_MAX, MEDIUM,
      "How far a producer's timestamp may lie in the past.",
      at_least(0)),
    ConfigKey("message.timestamp.after.max.ms", LONG, 3_600_000, MEDIUM,
      "How far a producer's timestamp may lie in the future.",
      at_least(0)),
    ConfigKey("leader.replication.throttled.replicas", LIST, (), MEDIUM,
      "Replicas whose leader keeps to the replication throttle: * or [partition]:[broker],....",
      _throttled_replicas()),
    ConfigKey("follower.replication.throttled.replicas", LIST, (), MEDIUM,
      "Replicas whose follower keeps to the replication throttle: * or [partition]:[broker],....",
      _throttled_replicas()),
    ConfigKey("remote.storage.enable", BOOLEAN, False, MEDIUM,
      "Whether closed segments move to remote storage.",
      effective=False),
    ConfigKey("local.retention.ms", LONG, -2, MEDIUM,
      "Age at which a segment that is also in remote storage is deleted here; -2 takes retention.ms.",
      at_least(-2), effective=False),
    ConfigKey("local.retention.bytes", LONG, -2, MEDIUM,
      "Size beyond which segments that are also in remote storage are deleted here; -2 takes retention.bytes.",
      at_least(-2), effective=False),
    ConfigKey("remote.log.copy.disable", BOOLEAN, False, MEDIUM,
      "Whether no further segments move to remote storage while those there stay readable.",
      effective=False),
    ConfigKey("remote.log.delete.on.disable", BOOLEAN, False, MEDIUM,
      "Whether remote segments are deleted when remote storage is turned off for the topic.",
      effective=False),
    ConfigKey("internal.segment.bytes", INT, None, MEDIUM,
      "Overrides segment.bytes below its least value, for tests.",
      internal=True),
)
# fmt: on

TOPIC_KEYS: dict[str, ConfigKey] = {key.name: key for key in _KEYS}
"""Every topic key by name."""

TOPIC_SYNONYMS: dict[str, tuple[str, ...]] = {
    "segment.bytes": ("log.segment.bytes",),
    "segment.ms": ("log.roll.ms", "log.roll.hours"),
    "segment.jitter.ms": ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    "segment.index.bytes": ("log.index.size.max.bytes",),
    "flush.messages": ("log.flush.interval.messages",),
    "flush.ms": ("log.flush.interval.ms", "log.flush.scheduler.interval.ms"),
    "retention.bytes": ("log.retention.bytes",),
    "retention.ms": ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    "max.message.bytes": ("message.max.bytes",),
    "index.interval.bytes": ("log.index.interval.bytes",),
    "delete.retention.ms": ("log.cleaner.delete.retention.ms",),
    "min.compaction.lag.ms": ("log.cleaner.min.compaction.lag.ms",),
    "max.compaction.lag.ms": ("log.cleaner.max.compaction.lag.ms",),
    "file.delete.delay.ms": ("log.segment.delete.delay.ms",),
    "min.cleanable.dirty.ratio": ("log.cleaner.min.cleanable.ratio",),
    "cleanup.policy": ("log.cleanup.policy",),
    "unclean.leader.election.enable": ("unclean.leader.election.enable",),
    "min.insync.replicas": ("min.insync.replicas",),
    "compression.type": ("compression.type",),
    "compression.gzip.level": ("compression.gzip.level",),
    "compression.lz4.level": ("compression.lz4.level",),
    "compression.zstd.level": ("compression.zstd.level",),
    "preallocate": ("log.preallocate",),
    "message.timestamp.type": ("log.message.timestamp.type",),
    "message.timestamp.before.max.ms": ("log.message.timestamp.before.max.ms",),
    "message.timestamp.after.max.ms": ("log.message.timestamp.after.max.ms",),
    "local.retention.ms": ("log.local.retention.ms",),
    "local.retention.bytes": ("log.local.retention.bytes",),
}
"""The broker keys that a topic key falls back on, the one that wins first."""


@dataclass(frozen=True, slots=True)
class ProduceLimits:
    """What each append asks of the settings, in one piece.

    Attributes:
        batch_bytes_max: The largest batch that a glance at its header may let pass.
        log_append_time: The log sets the timestamps.
        timestamp_before_max_ms: How much older than now a timestamp may be.
        timestamp_after_max_ms: How much newer.
        min_insync_replicas: For acks=all.
        recompresses: `compression.type` is not `producer`.
        flushes: `flush.messages` is set.
    """

    batch_bytes_max: int
    log_append_time: bool
    timestamp_before_max_ms: int
    timestamp_after_max_ms: int
    min_insync_replicas: int
    recompresses: bool
    flushes: bool


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What one partition log goes by; every attribute but `produce_limits` is the topic key in snake_case.

    `segment_bytes` is `internal.segment.bytes` when that is set. Times are milliseconds, sizes bytes.
    """

    segment_bytes: int = 1_073_741_824
    segment_ms: int = 604_800_000
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10_485_760
    flush_messages: int = LONG_MAX
    flush_ms: int = LONG_MAX
    retention_bytes: int = -1
    retention_ms: int = 604_800_000
    max_message_bytes: int = 1_048_588
    index_interval_bytes: int = 4096
    delete_retention_ms: int = 86_400_000
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = LONG_MAX
    file_delete_delay_ms: int = 60_000
    min_cleanable_dirty_ratio: float = 0.5
    cleanup_policy: frozenset[str] = frozenset({"delete"})
    unclean_leader_election_enable: bool = False
    min_insync_replicas: int = 1
    compression_type: str = "producer"
    compression_gzip_level: int = -1
    compression_lz4_level: int = 9
    compression_zstd_level: int = 3
    preallocate: bool = False
    message_timestamp_type: str = "CreateTime"
    message_timestamp_before_max_ms: int = LONG_MAX
    message_timestamp_after_max_ms: int = 3_600_000
    leader_replication_throttled_replicas: tuple[str, ...] = ()
    follower_replication_throttled_replicas: tuple[str, ...] = ()
    remote_storage_enable: bool = False
    local_retention_ms: int = -2
    local_retention_bytes: int = -2
    remote_log_copy_disable: bool = False
    remote_log_delete_on_disable: bool = False
    produce_limits: ProduceLimits = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        limits = ProduceLimits(
            # A batch for a compacted topic is never looked at only from outside: each record needs a key.
            batch_bytes_max=-1 if self.is_compacted else min(self.max_message_bytes, self.segment_bytes),
            log_append_time=self.message_timestamp_type == "LogAppendTime",
            timestamp_before_max_ms=self.message_timestamp_before_max_ms,
            timestamp_after_max_ms=self.message_timestamp_after_max_ms,
            min_insync_replicas=self.min_insync_replicas,
            recompresses=self.compression_type != "producer",
            flushes=self.flush_messages != LONG_MAX,
        )
        object.__setattr__(self, "produce_limits", limits)

    @property
    def roll_after_ms(self) -> int:
        """How old a segment gets: `segment.ms`, or `max.compaction.lag.ms` if that is shorter and the log is compacted."""
        if self.is_compacted and 0 < self.max_compaction_lag_ms < self.segment_ms:
            return self.max_compaction_lag_ms
        return self.segment_ms

    @property
    def is_compacted(self) -> bool:
        """Whether `cleanup.policy` has `compact`."""
        return "compact" in self.cleanup_policy

    @property
    def deletes_by_retention(self) -> bool:
        """Whether `cleanup.policy` has `delete`."""
        return "delete" in self.cleanup_policy


def typed_topic_configs(broker: BrokerConfig, overrides: Mapping[str, str]) -> dict[str, Any]:
    """The typed value of every topic key, by name; overrides of unknown names are passed over.

    Raises:
        ConfigError: An override does not parse; stored ones were validated when they were set.
    """
    values: dict[str, Any] = {}
    for name, key in TOPIC_KEYS.items():
        text = overrides.get(name)
        if text is not None:
            values[name] = key.parse(text)
        else:
            values[name] = broker[TOPIC_SYNONYMS[name][0]] if name in TOPIC_SYNONYMS else key.default
    return values


def log_config(broker: BrokerConfig, overrides: Mapping[str, str]) -> LogConfig:
    """The log configuration of a topic with these overrides on this broker.

    Overrides of unknown names are passed over: a data directory may bring some of other Kafka versions along.

    Raises:
        ConfigError: An override does not parse; stored ones were validated when they were set.
    """
    values = typed_topic_configs(broker, overrides)
    internal = values.pop("internal.segment.bytes")
    if internal is not None:
        values["segment.bytes"] = internal
    values["cleanup.policy"] = frozenset(values["cleanup.policy"])
    return LogConfig(**{name.replace(".", "_"): value for name, value in values.items()})


class LogConfigs:
    """`log_config` of one broker, with one object for all topics that have the same overrides.

    Args:
        broker: the broker's settings.
    """

    def __init__(self, broker: BrokerConfig) -> None:
        self._broker = broker
        self._known: dict[frozenset[tuple[str, str]], LogConfig] = {}
        broker.add_listener(lambda _: self._known.clear())

    def get(self, overrides: Mapping[str, str]) -> LogConfig:
        """As `log_config`."""
        known = self._known
        key = frozenset(overrides.items())
        found = known.get(key)
        if found is None:
            if len(known) >= _LOG_CONFIGS_MAX:
                known.clear()
            found = known[key] = log_config(self._broker, overrides)
        return found


def validate_topic_config(name: str, value: str) -> Any:
    """The typed value of one topic key.

    Raises:
        KafkaError: INVALID_CONFIG with Kafka's message, for an unknown name or a value that does not fit.
    """
    key = TOPIC_KEYS.get(name)
    if key is None:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}")
    try:
        return key.parse(value)
    except ConfigError as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None


def validate_topic_configs(
    broker: BrokerConfig,
    overrides: Mapping[str, str | None],
    *,
    kept: Mapping[str, str] = MappingProxyType({}),
) -> LogConfig:
    """The log configuration of these overrides taken together, each and all of them valid.

    `kept` is what the topic has already: a data directory may bring settings along that would be refused anew.

    Raises:
        KafkaError: INVALID_CONFIG with Kafka's message, for the first thing that is wrong.
    """
    absent = [name for name, value in overrides.items() if value is None]
    if absent:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(absent)}"
        )
    texts = {name: value for name, value in overrides.items() if value is not None}
    for name, value in texts.items():
        validate_topic_config(name, value)
    config = log_config(broker, texts)
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            "conflict topic config setting min.compaction.lag.ms "
            f"({config.min_compaction_lag_ms}) > max.compaction.lag.ms ({config.max_compaction_lag_ms})",
        )
    if config.remote_storage_enable:
        # We have no remote storage, so this is Kafka with remote.log.storage.system.enable=false.
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            "Tiered Storage functionality is disabled in the broker. "
            "Topic cannot be configured with remote log storage.",
        )
    for name in ("local.retention.ms", "local.retention.bytes"):
        if name in texts and texts[name] != kept.get(name):
            complaint = local_retention_complaint(name, TOPIC_KEYS[name].parse(texts[name]))
            if complaint is not None:
                raise KafkaError(ErrorCode.INVALID_CONFIG, complaint)
    return config
