"""The workloads, in the order in which they are measured and shown."""

from __future__ import annotations

from bench.rows import small, bulk, real_clients, latency, groups, transactions, compaction, scale, starts  # isort: skip - the order of the table
from bench.rows import cluster  # isort: skip

__all__ = [
    "bulk",
    "cluster",
    "compaction",
    "groups",
    "latency",
    "real_clients",
    "scale",
    "small",
    "starts",
    "transactions",
]
