"""The workloads, in the order in which they are measured and shown."""

from __future__ import annotations

from bench.rows import small

__all__ = ["small"]
