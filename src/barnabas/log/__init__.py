"""Partition logs on disk, in the format of Apache Kafka: segments, indexes, producer state, log directories."""
