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
      "",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("log.cleaner.io.max.bytes.per.second", DOUBLE, sys.float_info.max, MEDIUM,
      "",
      scope=CLUSTER_WIDE),
    ConfigKey("log.cleaner.dedupe.buffer.size", LONG, 134_217_728, MEDIUM,
      "",
      scope=CLUSTER_WIDE),
    ConfigKey("log.cleaner.io.buffer.size", INT, 524_288, MEDIUM,
      "",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("log.cleaner.io.buffer.load.factor", DOUBLE, 0.9, MEDIUM,
      "",
      scope=CLUSTER_WIDE),
    ConfigKey("log.cleaner.backoff.ms", LONG, 15_000, MEDIUM,
      "",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("log.cleaner.min.cleanable.ratio", DOUBLE, 0.5, MEDIUM,
      "",
      between(0, 1), CLUSTER_WIDE),
    ConfigKey("log.cleaner.enable", BOOLEAN, True, MEDIUM,
      ""),
    ConfigKey("log.cleaner.delete.retention.ms", LONG, 86_400_000, MEDIUM,
      "",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("log.cleaner.min.compaction.lag.ms", LONG, 0, MEDIUM,
      "",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("log.cleaner.max.compaction.lag.ms", LONG, LONG_MAX, MEDIUM,
      "",
      at_least(1), CLUSTER_WIDE),
)
# fmt: on
