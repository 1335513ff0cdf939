from __future__ import annotations

import contextlib
import gzip
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cramjam
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from barnabas.errors import DecodeError, ErrorCode, KafkaError
from barnabas.records import compression
from barnabas.records.compression import Codec, compress, decompress, decompress_apart
from tests.records.strategies import codecs

real_codecs = st.sampled_from(list(Codec)[1:])
XERIAL = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"


@given(codecs, st.binary(max_size=500), st.integers(1, 500))
@example(Codec.SNAPPY, b"", 1)
@example(Codec.LZ4, b"", 1)
def test_round_trip(codec, block, count):
    """What goes in comes out, over block borders too, from any kind of buffer."""
    data = block * count
    packed = compress(codec, memoryview(data))
    assert decompress(codec, memoryview(bytearray(packed)), len(data)) == data


@pytest.mark.parametrize("codec", list(Codec)[1:])
def test_levels(codec):
    """`compression.*.level` is taken (snappy has none)."""
    data = bytes(range(256)) * 1000
    assert decompress(codec, compress(codec, data, 9)) == data


@pytest.mark.parametrize("codec", list(Codec)[1:])
@pytest.mark.parametrize("excess", [1, 1000])
def test_the_limit_holds(codec, excess):
    """A byte above the limit is refused, the limit itself passes."""
    data = bytes(100_000)
    packed = compress(codec, data)
    assert decompress(codec, packed, 100_000) == data
    with pytest.raises(DecodeError):
        decompress(codec, packed, 100_000 - excess)
    with pytest.raises(DecodeError):
        decompress(Codec.NONE, data, 100_000 - excess)


@pytest.mark.parametrize("codec", list(Codec)[1:])
def test_bombs_are_bounded(codec):
    """Small data that unpacks to 100 MB takes no memory beyond the limit before it is refused."""
    packed = compress(codec, bytes(100_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decompress(codec, packed, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_claimed_sizes_are_not_believed():
    """Raw snappy that claims a gigabyte in six bytes is refused without allocating it."""
    claim = b"\x80\x80\x80\x80\x04\0"
    with pytest.raises(DecodeError):
        decompress(Codec.SNAPPY, claim, 2**31)


def test_snappy_has_the_framing_of_xerial():
    """Blocks of 32 KiB behind the header that snappy-java writes."""
    packed = compress(Codec.SNAPPY, bytes(40_000))
    assert packed.startswith(XERIAL)
    length = int.from_bytes(packed[16:20], "big")
    assert bytes(cramjam.snappy.decompress_raw(packed[20 : 20 + length])) == bytes(32 * 1024)


def test_snappy_without_framing_and_in_several_streams_is_read():
    """Raw snappy and concatenated streams are read, as snappy-java does."""
    raw = bytes(cramjam.snappy.compress_raw(b"raw" * 100))
    assert decompress(Codec.SNAPPY, raw) == b"raw" * 100
    twice = compress(Codec.SNAPPY, b"one") + compress(Codec.SNAPPY, b"two")
    assert decompress(Codec.SNAPPY, twice) == b"onetwo"


def test_lz4_blocks_do_not_depend_on_each_other():
    """The frame descriptor says version 01, independent blocks, no checksums, as Kafka's reader wants it."""
    assert compress(Codec.LZ4, b"data" * 100)[:7] == b"\x04\x22\x4d\x18\x60\x40\x82"


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.LZ4, Codec.ZSTD])
def test_frames_may_follow_each_other(codec):
    """Concatenated members or frames are read to the end."""
    assert decompress(codec, compress(codec, b"one") + compress(codec, b"two")) == b"onetwo"


def test_gzip_is_plain_gzip():
    """Any gzip reader reads it."""
    assert gzip.decompress(compress(Codec.GZIP, b"data")) == b"data"


@given(real_codecs, st.binary(max_size=300))
@example(Codec.SNAPPY, XERIAL[:10])
@example(Codec.SNAPPY, XERIAL + b"\xff\xff\xff\xff")
@example(Codec.SNAPPY, XERIAL + b"\0\0\0\x09abc")
@example(Codec.SNAPPY, XERIAL[:8] + bytes(8))
@example(Codec.SNAPPY, b"")
@example(Codec.GZIP, b"")
def test_random_bytes_raise_decode_error_only(codec, data):
    """Whatever a client sends as compressed data, it is data or a DecodeError."""
    with contextlib.suppress(DecodeError):
        assert len(decompress(codec, data, 100_000)) <= 100_000


@given(real_codecs, st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_damaged_data_raises_decode_error_only(codec, position, byte, cut):
    """A changed byte or a missing end gives data or a DecodeError."""
    packed = bytearray(compress(codec, b"some data to be packed, " * 50 + bytes(range(256))))
    position %= len(packed)
    if cut:
        del packed[position:]
    else:
        packed[position] = byte
    with contextlib.suppress(DecodeError):
        assert len(decompress(codec, packed, 100_000)) <= 100_000


@pytest.mark.parametrize("codec", list(Codec)[1:])
def test_cut_data_is_refused(codec):
    """Data that ends early never passes for whole."""
    packed = compress(codec, bytes(range(256)) * 20)
    for size in range(1, len(packed) - 4, 7):
        with contextlib.suppress(DecodeError):
            assert decompress(codec, packed[:size]) != bytes(range(256)) * 20


def _outcome(unpack, *arguments):
    try:
        return bytes(unpack(*arguments))
    except DecodeError:
        return None


@given(
    real_codecs,
    st.sampled_from([b"", b"some data to be packed, " * 50 + bytes(range(256)), bytes(200_000)]),
    st.sampled_from([100_000, 1456, 1455, 0]),
    st.none() | st.tuples(st.integers(0, 10_000), st.integers(0, 255)),
    st.none() | st.integers(0, 10_000),
    st.integers(1, 2),
)
def test_apart_is_the_same(codec, data, limit_bytes, change, cut, times):
    """Memory of its own makes no difference for what is read, or refused."""
    packed = bytearray(compress(codec, data) * times)
    if change is not None:
        packed[change[0] % len(packed)] = change[1]
    if cut is not None:
        del packed[cut % len(packed) :]
    expected = _outcome(decompress, codec, packed, limit_bytes)
    assert _outcome(decompress_apart, codec, packed, limit_bytes) == expected


@given(real_codecs, st.binary(max_size=300))
def test_apart_random_bytes_raise_decode_error_only(codec, data):
    """Whatever a client sends."""
    assert _outcome(decompress_apart, codec, data, 100_000) == _outcome(decompress, codec, data, 100_000)


def test_apart_gives_its_memory_back():
    """After megabytes of each codec a process is as small as before; in one of its own, for nobody else to disturb."""
    script = """
import os
from pathlib import Path
from barnabas.records.compression import Codec, compress, decompress_apart

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

packed = [(codec, compress(codec, bytes(1000) * 30_000)) for codec in list(Codec)[1:]]
before = resident_bytes()
for codec, data in packed * 2:
    assert len(decompress_apart(codec, data, 32 << 20)) == 30_000_000
print(resident_bytes() - before)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("the memory of a process is read from /proc")
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert int(found.stdout) < 10 << 20


def test_unknown_codecs():
    """Numbers 5 to 7 are nobody's."""
    with pytest.raises(DecodeError):
        decompress(5, b"")
    with pytest.raises(DecodeError):
        decompress_apart(5, b"")
    with pytest.raises(ValueError, match="5"):
        compress(5, b"")


def test_without_cramjam_gzip_still_works(monkeypatch):
    """The standard library serves gzip; the others say what is missing."""
    monkeypatch.setattr(compression, "_cramjam", None)
    assert decompress(Codec.GZIP, compress(Codec.GZIP, b"data")) == b"data"
    for codec in (Codec.SNAPPY, Codec.LZ4, Codec.ZSTD):
        for function in (compress, decompress):
            with pytest.raises(KafkaError, match="cramjam") as caught:
                function(codec, b"data")
            assert caught.value.code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
