import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.errors import DecodeError
from barnabas.metadata.framing import _NAMES, UnknownRecord, decode_record, encode_record, record_class
from barnabas.wire.messages.metadata.feature_level_record import FeatureLevelRecord

# The second record of the log of a new Apache Kafka 4.3.
FROM_KAFKA = bytes.fromhex("010c0011") + b"metadata.version" + bytes.fromhex("001e00")


def test_a_record_of_kafka_is_read_and_written_to_the_byte():
    """Frame version, key, version and body are where Kafka has them."""
    record = decode_record(FROM_KAFKA)
    assert record == FeatureLevelRecord(name="metadata.version", feature_level=30)
    assert encode_record(record) == FROM_KAFKA


@pytest.mark.parametrize("api_key", sorted(_NAMES))
def test_every_record_type_of_kafka_is_known(api_key):
    """Each type in the table has the key under which it stands, and survives a round trip."""
    record = record_class(api_key)()
    assert api_key == record.API_KEY
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize("frame", [b"\x01\x64\x00\x05", b"\x01\x0c\x09rest", b"\x01\xff\x7f\x00"])
def test_a_record_of_a_newer_kafka_is_kept_as_it_is(frame):
    """An unknown type or version is neither an error nor lost."""
    record = decode_record(memoryview(frame))
    assert isinstance(record, UnknownRecord)
    assert encode_record(record) == frame


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01",
        b"\x01\x0c",
        b"\x00\x0c\x00",
        b"\x02\x0c\x00",
        b"\xff\xff\xff\xff\x01",
        FROM_KAFKA + b"x",
        FROM_KAFKA[:-1],
    ],
)
def test_damaged_frames_are_refused(frame):
    """Whatever is wrong with the bytes, it is a DecodeError."""
    with pytest.raises(DecodeError):
        decode_record(frame)


@given(st.binary(max_size=64))
def test_random_bytes_decode_or_raise_decode_error(frame):
    """No bytes raise anything else."""
    try:
        record = decode_record(b"\x01" + frame)
    except DecodeError:
        return
    assert record is not None
