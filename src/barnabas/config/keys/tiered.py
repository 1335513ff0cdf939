"""Broker keys: tiered storage: segments that move to remote storage."""

from __future__ import annotations

from barnabas.config.definition import (
    BOOLEAN,
    CLUSTER_WIDE,
    DOUBLE,
    INT,
    LONG,
    LONG_MAX,
    LOW,
    MEDIUM,
    STRING,
    ConfigKey,
    at_least,
    between,
    non_empty,
)

__all__ = ["KEYS", "local_retention_complaint"]

_AS_RETENTION = -2

# fmt: off
KEYS = (
    ConfigKey("remote.log.storage.system.enable", BOOLEAN, False, MEDIUM,
      "Whether closed segments may move to remote storage.",
      effective=False),
    ConfigKey("remote.log.storage.manager.impl.prefix", STRING, "rsm.config.", MEDIUM,
      "Prefix of the keys that are handed to the remote storage plug-in.",
      non_empty(), effective=False),
    ConfigKey("remote.log.metadata.manager.impl.prefix", STRING, "rlmm.config.", MEDIUM,
      "Prefix of the keys that are handed to the remote metadata plug-in.",
      non_empty(), effective=False),
    ConfigKey("remote.log.storage.manager.class.name", STRING, None, MEDIUM,
      "Class of the remote storage plug-in.",
      non_empty(), effective=False),
    ConfigKey("remote.log.storage.manager.class.path", STRING, None, MEDIUM,
      "Where that class is loaded from.",
      effective=False),
    ConfigKey("remote.log.metadata.manager.class.name", STRING, "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", MEDIUM,
      "Class of the remote metadata plug-in.",
      non_empty(), effective=False),
    ConfigKey("remote.log.metadata.manager.class.path", STRING, None, MEDIUM,
      "Where that class is loaded from.",
      effective=False),
    ConfigKey("remote.log.metadata.manager.listener.name", STRING, None, MEDIUM,
      "Listener over which the remote metadata plug-in reaches the brokers.",
      non_empty(), effective=False),
    ConfigKey("remote.log.metadata.custom.metadata.max.bytes", INT, 128, LOW,
      "Size of a plug-in's own note on a segment at most.",
      at_least(0), effective=False),
    ConfigKey("remote.log.index.file.cache.total.size.bytes", LONG, 1_073_741_824, LOW,
      "Size of the indexes of remote segments kept here.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("remote.log.index.file.cache.ttl.ms", LONG, 900_000, LOW,
      "Time for which an unused index of a remote segment is kept here; -1 is for ever.",
      at_least(-1), effective=False, internal=True),
    ConfigKey("remote.log.manager.thread.pool.size", INT, 2, MEDIUM,
      "Threads for remote storage as a whole.",
      at_least(1), effective=False),
    ConfigKey("remote.log.manager.copier.thread.pool.size", INT, 10, MEDIUM,
      "Threads that copy segments to remote storage.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("remote.log.manager.expiration.thread.pool.size", INT, 10, MEDIUM,
      "Threads that delete segments from remote storage.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("remote.log.manager.follower.thread.pool.size", INT, 2, MEDIUM,
      "Threads that look up, for followers, what is in remote storage.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("remote.log.manager.task.interval.ms", LONG, 30_000, LOW,
      "How often segments to copy or delete are looked for.",
      at_least(1), effective=False),
    ConfigKey("remote.log.manager.task.retry.backoff.ms", LONG, 500, LOW,
      "Wait after the first failed attempt at remote storage.",
      at_least(1), effective=False, internal=True),
    ConfigKey("remote.log.manager.task.retry.backoff.max.ms", LONG, 30_000, LOW,
      "Wait between attempts at remote storage at most.",
      at_least(1), effective=False, internal=True),
    ConfigKey("remote.log.manager.task.retry.jitter", DOUBLE, 0.2, LOW,
      "Random share of that wait.",
      between(0, 0.5), effective=False, internal=True),
    ConfigKey("remote.log.reader.threads", INT, 10, MEDIUM,
      "Threads that read from remote storage.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("remote.log.reader.max.pending.tasks", INT, 100, MEDIUM,
      "Reads from remote storage that may wait.",
      at_least(1), effective=False),
    ConfigKey("log.local.retention.ms", LONG, _AS_RETENTION, MEDIUM,
      "Broker's default of the topic key local.retention.ms: age at which a segment that is also in remote storage is deleted here.",
      at_least(-2), CLUSTER_WIDE, effective=False),
    ConfigKey("log.local.retention.bytes", LONG, _AS_RETENTION, MEDIUM,
      "Broker's default of the topic key local.retention.bytes: size beyond which segments that are also in remote storage are deleted here.",
      at_least(-2), CLUSTER_WIDE, effective=False),
    ConfigKey("remote.log.manager.copy.max.bytes.per.second", LONG, LONG_MAX, MEDIUM,
      "Bytes per second copied to remote storage at most.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("remote.log.manager.copy.quota.window.num", INT, 11, MEDIUM,
      "Samples kept for that limit.",
      at_least(1), effective=False),
    ConfigKey("remote.log.manager.copy.quota.window.size.seconds", INT, 1, MEDIUM,
      "Span of one of those samples.",
      at_least(1), effective=False),
    ConfigKey("remote.log.manager.fetch.max.bytes.per.second", LONG, LONG_MAX, MEDIUM,
      "Bytes per second read from remote storage at most.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("remote.log.manager.fetch.quota.window.num", INT, 11, MEDIUM,
      "Samples kept for that limit.",
      at_least(1), effective=False),
    ConfigKey("remote.log.manager.fetch.quota.window.size.seconds", INT, 1, MEDIUM,
      "Span of one of those samples.",
      at_least(1), effective=False),
    ConfigKey("remote.fetch.max.wait.ms", INT, 500, MEDIUM,
      "Time that a fetch waits for remote storage.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("remote.list.offsets.request.timeout.ms", LONG, 30_000, MEDIUM,
      "Time that a look-up of offsets waits for remote storage.",
      at_least(1), CLUSTER_WIDE, effective=False),
    ConfigKey("follower.fetch.last.tiered.offset.enable", BOOLEAN, False, MEDIUM,
      "Whether a new follower starts behind what is in remote storage.",
      scope=CLUSTER_WIDE, effective=False),
)
# fmt: on


def local_retention_complaint(name: str, value: int) -> str | None:
    """One sentence on why a key of local retention cannot have this value, or `None`: only its default changes nothing.

    Kafka takes it without remote storage, too, and it then has no effect; whoever sets it wants to have records deleted.
    """
    if value == _AS_RETENTION:
        return None
    return (
        f"{name} is for segments that are also in remote storage, and this broker has none: "
        f"set {name.replace('local.', '')} instead, and leave {name} at {_AS_RETENTION}."
    )
