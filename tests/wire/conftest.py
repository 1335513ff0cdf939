from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle.kafka_jars import KAFKA_39, KAFKA_43, kafka_jars
from tests.wire.kafka_oracle import KafkaOracle
from tools.codegen.definitions import read_definitions
from tools.codegen.messages import read_messages
from tools.codegen.schema import parse_message


@pytest.fixture(scope="session")
def definitions():
    """Kafka's definitions of all messages, by name."""
    rooms = read_messages(_jars(KAFKA_43), _jars(KAFKA_39))
    return {message.name: message for messages in rooms.values() for message in messages}


@pytest.fixture(scope="session")
def kafka_of(request, tmp_path_factory):
    """Says which Kafka knows a version of a message: 4.3, or 3.9 for what 4.3 has not any more."""
    oracles = {}
    clients = read_definitions(_jars(KAFKA_43) / f"kafka-clients-{KAFKA_43}.jar")
    versions = {name: message.versions for name, d in clients.items() if (message := parse_message(d))}

    def oracle(cls, version):
        release = KAFKA_43 if version in versions.get(cls.__name__, (version,)) else KAFKA_39
        if release not in oracles:
            oracles[release] = KafkaOracle(release, tmp_path_factory.mktemp("wire-oracle"))
            request.addfinalizer(oracles[release].close)
        return oracles[release]

    return oracle


def _jars(release: str) -> Path:
    return Path(kafka_jars(release)).parent
