"""A Java process that reads and writes messages with Apache Kafka's own classes (`java/WireOracle.java`)."""

from __future__ import annotations

import json
from pathlib import Path

from tests.oracle.java_program import JavaProgram

__all__ = ["KafkaOracle"]

_SOURCE = Path(__file__).with_name("java") / "WireOracle.java"

_PACKAGES = {
    "group": "org.apache.kafka.coordinator.group.generated",
    "transaction": "org.apache.kafka.coordinator.transaction.generated",
    "share": "org.apache.kafka.coordinator.share.generated",
    "metadata": "org.apache.kafka.common.metadata",
    "storage": "org.apache.kafka.server.log.remote.metadata.storage.generated",
}


class KafkaOracle:
    """Apache Kafka of one release, ready to read messages."""

    def __init__(self, release: str, directory: Path) -> None:
        self._java = JavaProgram(_SOURCE, directory, version=release)
        self.close = self._java.close

    def read(self, cls: type, version: int, data: bytes) -> tuple[int, bytes, dict]:
        """What Kafka makes of these bytes: how many it left, what it writes in turn, and the fields as JSON."""
        self._java.ask(f"{_java_name(cls)} {version} {data.hex()}\n".encode())
        line = self._java.line()
        assert not line.startswith("!"), f"Kafka cannot read it: {line}"
        rest, written, fields = line.split(" ", 2)
        return int(rest), bytes.fromhex(written), json.loads(fields)


def _java_name(cls: type) -> str:
    room = cls.__module__.removeprefix("barnabas.wire.messages.").rpartition(".")[0]
    if room in _PACKAGES:
        return f"{_PACKAGES[room]}.{cls.__name__}"
    suffix = "" if room == "client" else "Data"
    return f"org.apache.kafka.common.message.{cls.__name__}{suffix}"
