"""Apache Kafka's own classes read what we write, and write what we read: every message, every version."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.wire.every_message import VERSIONS, few_examples
from tests.wire.values import as_json, messages

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize(("cls", "version"), VERSIONS)
def test_kafka_reads_and_writes_the_same_bytes(cls, version, definitions, kafka_of):
    """Any value that we write, Kafka reads with the same fields and writes as the same bytes; we read it back."""
    definition = definitions[cls.__name__]
    kafka = kafka_of(cls, version)

    @few_examples
    @given(messages(cls, definition, version))
    def check(message):
        data = message.encode(version)
        rest, written, fields = kafka.read(cls, version, data)
        assert rest == 0
        shown = as_json(message, definition, definition.root, version)
        assert fields == shown
        assert written == data
        decoded, end = cls.decode_at(data, version, 0)
        assert end == len(data)
        assert as_json(decoded, definition, definition.root, version) == shown
        assert decoded.encode(version) == data

    check()
