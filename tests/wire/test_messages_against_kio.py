"""kio, an independent implementation, writes and reads the same bytes: every message and version that it has."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from kio.serial import entity_reader, entity_writer

from tests.wire.every_message import CLASSES, few_examples
from tests.wire.kio_values import ENTITIES, pairs

_OURS = {cls.__name__: cls for cls in CLASSES}


@pytest.mark.parametrize(
    ("entity", "version"),
    [pytest.param(entity, version, id=f"{entity.__name__}-{version}") for entity, version in ENTITIES],
)
def test_kio_writes_and_reads_the_same_bytes(entity, version):
    """A value has the same bytes by kio and by us, and each reads the other's as that value."""
    ours = _OURS[entity.__name__]
    write, read = entity_writer(entity), entity_reader(entity)

    @few_examples
    @given(pairs(entity, ours))
    def check(pair):
        theirs, message = pair
        stream = io.BytesIO()
        write(stream, theirs)
        data = stream.getvalue()
        assert message.encode(version) == data
        assert ours.decode_at(data, version, 0) == (message, len(data))
        assert read(data, 0) == (theirs, len(data))

    check()
