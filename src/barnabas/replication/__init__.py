"""Partitions as this broker hosts them: leadership, high watermark, in-sync replicas, and who waits for what."""
