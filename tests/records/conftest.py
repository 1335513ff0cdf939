from __future__ import annotations

import pytest

from tests.records.kafka_oracle import KafkaOracle


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    oracle = KafkaOracle(tmp_path_factory.mktemp("kafka-records"))
    yield oracle
    oracle.close()
