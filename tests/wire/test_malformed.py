"""Bytes that are no message: DecodeError or a message, never anything else, and never much memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnabas.errors import DecodeError
from barnabas.wire.messages.metadata import MetadataRequest
from tests.wire.every_message import CLASSES, layouts
from tests.wire.samples import sample

_LYING_SIZES = [b"\x7f\xff\xff\xff", b"\x7f\xff", b"\xff\xff\xff\xff\x0f"]

every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


@every_class
def test_the_sample_survives(cls):
    """A message with something in every field is read as it was written, from any kind of buffer, at any offset."""
    for version in range(cls.MIN_VERSION, cls.MAX_VERSION + 1):
        data = sample(cls, version).encode(version)
        assert cls.decode(data, version).encode(version) == data
        assert cls.decode(bytearray(data), version).encode(version) == data
        decoded, end = cls.decode_at(memoryview(b"before" + data + b"after"), version, 6)
        assert end == 6 + len(data)
        assert decoded.encode(version) == data


@every_class
def test_a_truncated_message_is_refused(cls):
    """Wherever a message is cut off, decoding raises DecodeError."""
    for version in layouts(cls):
        data = sample(cls, version).encode(version)
        for length in range(len(data)):
            with pytest.raises(DecodeError):
                cls.decode(data[:length], version)


@every_class
def test_damaged_bytes_give_a_message_or_a_decode_error(cls):
    """Flipped, inserted and removed bytes are decoded or refused, nothing else."""
    for version in layouts(cls):
        data = sample(cls, version).encode(version)
        for _ in range(60):
            damaged = bytearray(data)
            for _ in range(random.randint(1, 3)):
                position = random.randrange(len(damaged) + 1)
                damaged[position : position + random.randint(0, 2)] = random.randbytes(random.randint(0, 2))
            _decode_or_refuse(cls, version, memoryview(damaged))


@every_class
def test_a_lying_size_costs_no_memory(cls):
    """Whatever size or count is claimed anywhere in a message, decoding takes memory for the real bytes only."""
    samples = [(version, sample(cls, version).encode(version)) for version in layouts(cls)]
    tracemalloc.start()
    try:
        for version, data in samples:
            for position in range(len(data)):
                for lie in _LYING_SIZES:
                    _decode_or_refuse(cls, version, data[:position] + lie + data[position + len(lie) :])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CLASSES), st.data())
def test_random_bytes_give_a_message_or_a_decode_error(cls, data):
    """Random bytes are decoded or refused, nothing else, in any version there is or is not."""
    version = data.draw(st.integers(cls.MIN_VERSION - 1, cls.MAX_VERSION + 1))
    _decode_or_refuse(cls, version, data.draw(st.binary(max_size=200)))


def test_a_count_that_the_bytes_cannot_hold_is_refused_at_once():
    """No element is read of an array that claims more of them than the rest of the message has room for."""
    data = (1000).to_bytes(4, "big") + b"\x00\x01a" * 600
    with pytest.raises(DecodeError, match="more elements than bytes are left"):
        MetadataRequest.decode(data, 1)
    with pytest.raises(DecodeError, match="runs past the end"):
        MetadataRequest.decode(data + b"\x00\x01a" * 399, 1)
    assert len(MetadataRequest.decode(data + b"\x00\x01a" * 400, 1).topics) == 1000


def _decode_or_refuse(cls, version, data):
    try:
        cls.decode(data, version)
    except DecodeError:
        return
