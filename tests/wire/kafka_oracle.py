"""A Java process that reads and writes messages with Apache Kafka's own classes (`java/WireOracle.java`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.oracle.kafka_jars import kafka_jars

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
        class_path = kafka_jars(release)
        if shutil.which("javac") is None:
            reason = "javac is missing (Debian: apt install default-jdk-headless)"
            if os.environ.get("CI"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
        subprocess.run(["javac", "-d", directory, "-cp", class_path, _SOURCE], check=True)
        options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]
        self._stderr = (directory / "stderr").open("wb")
        self._process = subprocess.Popen(
            ["java", *options, "-cp", f"{directory}{os.pathsep}{class_path}", "WireOracle"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._stderr.close()

    def read(self, cls: type, version: int, data: bytes) -> tuple[int, bytes, dict]:
        """What Kafka makes of these bytes: how many it left, what it writes in turn, and the fields as JSON."""
        self._process.stdin.write(f"{_java_name(cls)} {version} {data.hex()}\n".encode())
        self._process.stdin.flush()
        line = self._process.stdout.readline().decode().rstrip("\n")
        assert line, f"the oracle died: {Path(self._stderr.name).read_text()}"
        assert not line.startswith("!"), f"Kafka cannot read it: {line}"
        rest, written, fields = line.split(" ", 2)
        return int(rest), bytes.fromhex(written), json.loads(fields)


def _java_name(cls: type) -> str:
    room = cls.__module__.removeprefix("barnabas.wire.messages.").rpartition(".")[0]
    if room in _PACKAGES:
        return f"{_PACKAGES[room]}.{cls.__name__}"
    suffix = "" if room == "client" else "Data"
    return f"org.apache.kafka.common.message.{cls.__name__}{suffix}"
