"""Barnabas: an event-streaming broker in Python that speaks the Apache Kafka protocol."""

__all__ = ["__version__"]

__version__ = "0.1.0"
