"""Broker keys: the cleaner of compacted topics."""

from __future__ import annotations

import sys

from barnabas.config.definition import (
    BOOLEAN,
    CLUSTER_WIDE,
    DOUBLE,
    INT,
    LONG,
    LONG_MAX,
    MEDIUM,
    ConfigKey,
    at_least,
    between,
)

__all__ = ["KEYS"]

# fmt: off
KEYS = (
    ConfigKey("log.cleaner.threads", INT, 1, MEDIUM,
      "Threads that compact logs.",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("log.cleaner.io.max.bytes.per.second", DOUBLE, sys.float_info.max, MEDIUM,
      "Bytes that all cleaners together read and write per second at most.",
      scope=CLUSTER_WIDE),
    ConfigKey("log.cleaner.dedupe.buffer.size", LONG, 134_217_728, MEDIUM,
      "Memory for the map of keys, shared by all cleaners.",
      scope=CLUSTER_WIDE),
    ConfigKey("log.cleaner.io.buffer.size", INT, 524_288, MEDIUM,
      "Memory for reading and writing segments, shared by all cleaners.",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("log.cleaner.io.buffer.load.factor", DOUBLE, 0.9, MEDIUM,
      "How full the map of keys may become before a pass ends.",
      scope=CLUSTER_WIDE),
    ConfigKey("log.cleaner.backoff.ms", LONG, 15_000, MEDIUM,
      "Rest of a cleaner that found nothing to do.",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("log.cleaner.min.cleanable.ratio", DOUBLE, 0.5, MEDIUM,
      "Broker's default of the topic key min.cleanable.dirty.ratio: share of uncompacted bytes at which a log is compacted.",
      between(0, 1), CLUSTER_WIDE),
    ConfigKey("log.cleaner.enable", BOOLEAN, True, MEDIUM,
      "Whether compacted topics are compacted at all; turning it off lets them, and the offsets topic, grow for ever."),
    ConfigKey("log.cleaner.delete.retention.ms", LONG, 86_400_000, MEDIUM,
      "Broker's default of the topic key delete.retention.ms: time for which a compacted log keeps tombstones.",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("log.cleaner.min.compaction.lag.ms", LONG, 0, MEDIUM,
      "Broker's default of the topic key min.compaction.lag.ms: age below which a record is not compacted away.",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("log.cleaner.max.compaction.lag.ms", LONG, LONG_MAX, MEDIUM,
      "Broker's default of the topic key max.compaction.lag.ms: age at which a record is due for compaction.",
      at_least(1), CLUSTER_WIDE),
)
# fmt: on
