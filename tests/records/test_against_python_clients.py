"""Against the batch codecs of aiokafka and kafka-python, which Python clients use."""

from __future__ import annotations

import warnings

import pytest
from aiokafka.record import default_records as aiokafka_records
from hypothesis import given
from hypothesis import strategies as st

from barnabas.records.builder import build_batch
from barnabas.records.compression import Codec
from barnabas.records.record import iterate_records
from barnabas.records.validation import validate_produced

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of importlib.resources, which kafka-python uses
    from kafka.record import default_records as kafka_python_records

# kafka-python takes a package for each other codec, aiokafka takes them all from cramjam.
PAIRS = [(aiokafka_records, codec) for codec in Codec]
PAIRS += [(kafka_python_records, codec) for codec in (Codec.NONE, Codec.GZIP)]

names = st.text("abcü", max_size=5)
headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=9)), max_size=2).map(tuple)
content = st.none() | st.binary(max_size=100)
record_lists = st.lists(
    st.tuples(st.just(0), st.integers(0, 2**41), content, content, headers), min_size=1, max_size=20
)


@pytest.mark.parametrize(("library", "codec"), PAIRS)
@given(records=record_lists)
def test_we_read_what_they_write(library, codec, records):
    """A batch of the client passes validation, and every record comes out."""
    builder = library.DefaultRecordBatchBuilder(
        magic=2,
        compression_type=int(codec),
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=2**20,
    )
    for index, (_, timestamp, key, value, record_headers) in enumerate(records):
        builder.append(index, timestamp, key, value, list(record_headers))
    batch = bytes(builder.build())
    validate_produced(batch, api_version=9, now_ms=2**41, max_message_bytes=2**20)
    assert [record[1:] for record in iterate_records(batch)] == [record[1:] for record in records]


@pytest.mark.parametrize(("library", "codec"), PAIRS)
@given(records=record_lists)
def test_they_read_what_we_write(library, codec, records):
    """The client checks our checksum and gets every record out."""
    batch = library.DefaultRecordBatch(build_batch(records, base_offset=5, compression=codec))
    assert batch.validate_crc()
    read = [(r.offset, r.timestamp, r.key, r.value, tuple(map(tuple, r.headers))) for r in batch]
    assert read == [(5 + index, *record[1:]) for index, record in enumerate(records)]
