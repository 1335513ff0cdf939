"""Broker keys that are ours: the durability promise, and limits on what a client can make grow."""

from __future__ import annotations

from barnabas.config.definition import (
    BOOLEAN,
    HIGH,
    INT,
    LIST,
    LONG,
    LOW,
    MEDIUM,
    STRING,
    ConfigKey,
    at_least,
    between,
    list_of,
    one_of,
)

__all__ = ["DURABILITIES", "FSYNC_ALWAYS", "FSYNC_WHEN_ALONE", "KEYS", "PAGE_CACHE"]

PAGE_CACHE = "page-cache"
FSYNC_WHEN_ALONE = "fsync-when-alone"
FSYNC_ALWAYS = "fsync-always"
DURABILITIES = (PAGE_CACHE, FSYNC_WHEN_ALONE, FSYNC_ALWAYS)

# fmt: off
KEYS = (
    ConfigKey("barnabas.durability", STRING, FSYNC_WHEN_ALONE, HIGH,
      "When a record is on disk before it is acknowledged: never (page-cache, as Kafka), when acks=all finds no other "
      "in-sync copy (fsync-when-alone), or always, on all in-sync replicas (fsync-always).",
      one_of(*DURABILITIES)),
    ConfigKey("barnabas.pipelined.requests.per.connection", INT, 100, MEDIUM,
      "Requests of one connection that may wait for their answers at once; more are left unread in the socket.",
      at_least(1)),
    ConfigKey("barnabas.outgoing.bytes.per.connection", LONG, 16_777_216, MEDIUM,
      "Bytes of unsent answers, and of records that wait to be packed anew or for a transaction's coordinator, at which a connection is no longer read.",
      at_least(65_536)),
    ConfigKey("barnabas.pending.members.per.group", INT, 10_000, LOW,
      "Members of one classic group that were given an id and have not joined with it yet; more are refused.",
      at_least(1)),
    ConfigKey("barnabas.open.files", INT, 4_096, MEDIUM,
      "Segment and index files kept open at most; the least recently used are closed first.",
      at_least(16)),
    ConfigKey("barnabas.worker.threads", INT, 4, MEDIUM,
      "Threads that sync and delete files, so that the event loop never waits for a disk.",
      at_least(1)),
    ConfigKey("barnabas.poll.us", INT, 50, LOW,
      "Microseconds for which the event loop looks for the next request before it sleeps, as long as that finds any; 0 turns it off.",
      between(0, 10_000)),
    ConfigKey("barnabas.lost.log.dirs", LIST, (), MEDIUM,
      "Ids of log directories that are lost for good: the partitions that lie in them begin anew, empty, in the others.",
      list_of(empty_allowed=True)),
    ConfigKey("barnabas.accept.new.log.dirs", BOOLEAN, True, MEDIUM,
      "Whether a log directory without meta.properties is taken for a new one; otherwise it is offline, as on a disk that "
      "is not mounted."),
    ConfigKey("barnabas.group.consumer.waiting.heartbeat.interval.ms", INT, 500, LOW,
      "Longest time between heartbeats of a consumer group's member that waits for partitions, one millisecond more for each other member; 0: as all others.",
      at_least(0)),
    ConfigKey("barnabas.log.format", STRING, "text", LOW,
      "How log lines are written to standard error: text (key=value pairs) or json.",
      one_of("text", "json")),
    ConfigKey("barnabas.log.level", STRING, "info", LOW,
      "Least level of the log lines that are written.",
      one_of("debug", "info", "warning", "error")),
    ConfigKey("barnabas.client.metrics.max.series", INT, 10_000, LOW,
      "Numbers pushed by clients (KIP-714) that are kept and shown at most; more are dropped.",
      at_least(0)),
    ConfigKey("barnabas.metrics.host", STRING, "localhost", LOW,
      "Address on which Prometheus metrics are served."),
    ConfigKey("barnabas.metrics.port", INT, -1, MEDIUM,
      "Port on which Prometheus metrics are served under /metrics; -1 turns them off, 0 takes any free port.",
      between(-1, 65_535)),
)
# fmt: on
