"""`.kafka_cleanshutdown`: the marker that all logs of a directory were closed in order.

    {"version":0,"brokerEpoch":12,"crc32c":{"recovery-point-offset-checkpoint":3735928559}}

It is written last of all, and deleted before anything else is changed. With it the next start reads no log data, and believes
the checkpoints, whose format has no checksum: theirs are here. Without it the logs are recovered. A cluster takes from the
broker epoch whether a broker lost its unsynced records meanwhile.

Source: `CleanShutdownFileHandler` of Apache Kafka 4.3, which passes over what it does not know; KIP-966.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CLEAN_SHUTDOWN", "CleanShutdown", "decode_clean_shutdown", "encode_clean_shutdown"]

CLEAN_SHUTDOWN = ".kafka_cleanshutdown"

_OF_NO_FILE = -1


class CleanShutdown(NamedTuple):
    """What a marker says.

    Attributes:
        broker_epoch: that of the registration that ended; -1 for none.
        checksums: the CRC-32C of each checkpoint file by its name; None if the marker is another broker's.
    """

    broker_epoch: int
    checksums: Mapping[str, int] | None

    def checksum_of(self, name: str) -> int | None:
        """That of a checkpoint file, or one that no file has if there was none to be believed; None if it is not known."""
        return None if self.checksums is None else self.checksums.get(name, _OF_NO_FILE)


def encode_clean_shutdown(marker: CleanShutdown) -> bytes:
    """The content of the marker."""
    checksums = ""
    if marker.checksums is not None:
        each = ",".join(f'"{name}":{checksum}' for name, checksum in marker.checksums.items())
        checksums = f',"crc32c":{{{each}}}'
    return f'{{"version":0,"brokerEpoch":{marker.broker_epoch}{checksums}}}'.encode()


def decode_clean_shutdown(content: bytes) -> CleanShutdown:
    """The marker with this content; it has no epoch and no checksums if it is the empty one of an older broker, or damaged."""
    import json

    try:
        value = json.loads(content)
        epoch, checksums = value["brokerEpoch"], value.get("crc32c")
    except (ValueError, TypeError, KeyError):
        return CleanShutdown(-1, None)
    return CleanShutdown(
        epoch if isinstance(epoch, int) else -1, checksums if isinstance(checksums, dict) else None
    )
