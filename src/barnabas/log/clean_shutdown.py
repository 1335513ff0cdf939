"""`.kafka_cleanshutdown`: the marker that all logs of a directory were closed in order.

    {"version":0,"brokerEpoch":12}

It is written last of all, and deleted before anything else is changed. With it the next start reads no log data; without
it the logs are recovered. A cluster takes from the broker epoch whether a broker lost its unsynced records meanwhile.

Source: `CleanShutdownFileHandler` of Apache Kafka 4.3; KIP-966.
"""

from __future__ import annotations

__all__ = ["CLEAN_SHUTDOWN", "decode_clean_shutdown", "encode_clean_shutdown"]

CLEAN_SHUTDOWN = ".kafka_cleanshutdown"


def encode_clean_shutdown(broker_epoch: int) -> bytes:
    """The content of the marker; -1 for no epoch."""
    return f'{{"version":0,"brokerEpoch":{broker_epoch}}}'.encode()


def decode_clean_shutdown(content: bytes) -> int:
    """The broker epoch in a marker; -1 if it has none, as the empty one of an older broker."""
    import json

    try:
        value = json.loads(content)
        epoch = value["brokerEpoch"]
    except (ValueError, TypeError, KeyError):
        return -1
    return epoch if isinstance(epoch, int) else -1
