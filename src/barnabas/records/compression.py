"""The four codecs of record batches, and their framing.

The only module that imports `cramjam`. Without it gzip still works, by `zlib`; the others raise
UNSUPPORTED_COMPRESSION_TYPE. Decompression never yields more than the caller's limit, whatever the data claims.

Framing, as Kafka's own clients write and read it:

- gzip: RFC 1952, members may follow each other.
- snappy: xerial's stream: `82 "SNAPPY" 00`, version 1, lowest compatible version 1 (32 bits each), then blocks of
  a 32-bit length and raw snappy; streams may follow each other. Bare raw snappy is read too.
- lz4: the frame format 1.6, blocks of 64 KiB that do not depend on each other (Kafka's Java reader refuses
  others), no checksums but the descriptor's.
- zstd: RFC 8878, frames may follow each other.

Source: Kafka's `Compression` and `Lz4BlockOutputStream`, snappy-java's `SnappyOutputStream`, KIP-110 (zstd), KIP-390
(levels).
"""

from __future__ import annotations

import mmap
import struct
import zlib
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from barnabas.errors import DecodeError, ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["DEFAULT_LIMIT_BYTES", "Codec", "compress", "decompress", "decompress_apart"]

DEFAULT_LIMIT_BYTES = 256 * 1024 * 1024
"""What a batch may decompress to where the caller states no limit of its own."""


class Codec(IntEnum):
    """The codecs by their number in the batch's attributes; the lower-case names are those of `compression.type`."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class _Unavailable(Exception):  # noqa: N818 - stands in for cramjam's error class and is never raised
    """What is caught where cramjam is missing."""


_cramjam: Any
_failures: tuple[type[Exception], ...]
try:
    import cramjam as _cramjam

    _failures = (_cramjam.DecompressionError, _cramjam.CompressionError)
except ImportError:
    _cramjam = None
    _failures = (_Unavailable,)

_SNAPPY_MAGIC = b"\x82SNAPPY\0"
_SNAPPY_HEADER = _SNAPPY_MAGIC + struct.pack(">ii", 1, 1)
_SNAPPY_BLOCK_BYTES = 32 * 1024
_SNAPPY_RATIO = 22  # a copy of 64 bytes takes three

# Magic, version 01 with independent blocks, block size 4 (64 KiB), and the descriptor's own checksum.
_LZ4_HEADER = b"\x04\x22\x4d\x18\x60\x40\x82"
_LZ4_BLOCK_BYTES = 64 * 1024
_LZ4_STORED = 1 << 31
_LZ4_END = bytes(4)

_GZIP_WINDOW = 31  # the largest window, with a gzip header
_FIRST_GUESS_BYTES = 64 * 1024
_PIECE_BYTES = 64 * 1024

_INT32 = struct.Struct(">i")
_UINT32_LITTLE = struct.Struct("<I")


def compress(codec: int, data: bytes | bytearray | memoryview, level: int | None = None) -> bytes:
    """`data` in the framing of `codec`; `level` as in `compression.*.level`, None for the codec's usual one.

    UNSUPPORTED_COMPRESSION_TYPE if the codec is not installed, ValueError if there is none of that number.
    """
    if codec == Codec.NONE:
        return bytes(data)
    return _COMPRESSORS[Codec(codec)](data, level)


def decompress(
    codec: int, data: bytes | bytearray | memoryview, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> bytes | bytearray:
    """What `data` holds, at most `limit_bytes`.

    DecodeError if it is corrupt, larger than the limit, or of an unknown codec; UNSUPPORTED_COMPRESSION_TYPE if
    the codec is not installed. Memory is bounded by the limit, also on the way to the error.
    """
    if codec == Codec.NONE:
        if len(data) > limit_bytes:
            raise _too_large(limit_bytes)
        return bytes(data)
    decompressor = _DECOMPRESSORS.get(codec)
    if decompressor is None:
        raise DecodeError(f"unknown compression codec {codec}")
    return decompressor(data, limit_bytes)


def decompress_apart(
    codec: int, data: bytes | bytearray | memoryview, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> memoryview:
    """As `decompress`, in memory of its own, which goes back to the system as soon as nobody holds the view.

    For what strangers send now and then: what the allocator has once given for it, it would keep.
    """
    if codec == Codec.NONE:
        if len(data) > limit_bytes:
            raise _too_large(limit_bytes)
        return memoryview(data)
    unpack = _INTO.get(codec)
    if unpack is None:
        raise DecodeError(f"unknown compression codec {codec}")
    room = mmap.mmap(-1, max(limit_bytes, 1))  # only what is written to takes memory
    return memoryview(room)[: unpack(data, room, limit_bytes)]


def _too_large(limit_bytes: int) -> DecodeError:
    return DecodeError(f"records take more than {limit_bytes} bytes when decompressed")


def _library(codec: Codec) -> Any:
    if _cramjam is None:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"{codec.name.lower()} needs the cramjam package, which is not installed here",
        )
    return getattr(_cramjam, codec.name.lower())


def _compress_gzip(data: bytes | bytearray | memoryview, level: int | None) -> bytes:
    compressor = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, _GZIP_WINDOW)
    return compressor.compress(data) + compressor.flush()


def _decompress_gzip(data: bytes | bytearray | memoryview, limit_bytes: int) -> bytearray:
    output = bytearray()
    rest: bytes | bytearray | memoryview = data
    try:
        while True:
            member = zlib.decompressobj(_GZIP_WINDOW)
            output += member.decompress(rest, limit_bytes - len(output) + 1)
            if len(output) > limit_bytes:
                raise _too_large(limit_bytes)
            if not member.eof:
                raise DecodeError("gzip data ends before its last block")
            rest = member.unused_data
            if rest[:2] != b"\x1f\x8b":  # like java.util.zip, which takes anything else for padding
                return output
    except zlib.error as error:
        raise DecodeError(f"gzip data is corrupt: {error}") from None


def _compress_snappy(data: bytes | bytearray | memoryview, level: int | None) -> bytes:
    del level  # snappy has none
    library = _library(Codec.SNAPPY)
    view = memoryview(data)
    parts = [_SNAPPY_HEADER]
    for start in range(0, len(view), _SNAPPY_BLOCK_BYTES):
        block = bytes(library.compress_raw(view[start : start + _SNAPPY_BLOCK_BYTES]))
        parts.append(_INT32.pack(len(block)))
        parts.append(block)
    return b"".join(parts)


def _gzip_into(data: bytes | bytearray | memoryview, room: mmap.mmap, limit_bytes: int) -> int:
    size = 0
    rest: bytes | bytearray | memoryview = data
    try:
        while True:
            member = zlib.decompressobj(_GZIP_WINDOW)
            while not member.eof:
                piece = member.decompress(rest, _PIECE_BYTES)
                if size + len(piece) > limit_bytes:
                    raise _too_large(limit_bytes)
                room[size : size + len(piece)] = piece
                size += len(piece)
                rest = member.unconsumed_tail
                if not (piece or rest or member.eof):
                    raise DecodeError("gzip data ends before its last block")
            rest = member.unused_data
            if rest[:2] != b"\x1f\x8b":
                return size
    except zlib.error as error:
        raise DecodeError(f"gzip data is corrupt: {error}") from None


def _decompress_snappy(data: bytes | bytearray | memoryview, limit_bytes: int) -> bytes | bytearray:
    library = _library(Codec.SNAPPY)
    view = memoryview(data)
    if view[:8] != _SNAPPY_MAGIC:
        return _snappy_block(library, view, limit_bytes)
    output = bytearray()
    for block in _snappy_blocks(view):
        output += _snappy_block(library, block, limit_bytes - len(output))
    return output


def _snappy_into(data: bytes | bytearray | memoryview, room: mmap.mmap, limit_bytes: int) -> int:
    library = _library(Codec.SNAPPY)
    view = memoryview(data)
    size = 0
    with memoryview(room) as target:
        for block in _snappy_blocks(view) if view[:8] == _SNAPPY_MAGIC else (view,):
            try:
                end = size + _snappy_size(library, block, limit_bytes - size)
                library.decompress_raw_into(block, target[size:end])
            except _failures as error:
                raise DecodeError(f"snappy data is corrupt: {error}") from None
            size = end
    return size


def _snappy_blocks(view: memoryview) -> Iterator[memoryview]:
    """The blocks of xerial's streams."""
    size = len(view)
    if size < len(_SNAPPY_HEADER):
        raise DecodeError("snappy stream ends within its header")
    if _INT32.unpack_from(view, 8)[0] < 1:
        raise DecodeError("snappy stream has an incompatible version")
    position = len(_SNAPPY_HEADER)
    while position < size:
        if view[position : position + 8] == _SNAPPY_MAGIC:  # another stream follows
            position += len(_SNAPPY_HEADER)
            continue
        if size - position < 4:
            raise DecodeError("snappy stream ends within a block's length")
        length: int = _INT32.unpack_from(view, position)[0]
        position += 4
        if not 0 <= length <= size - position:
            raise DecodeError(f"snappy block claims {length} bytes, {size - position} are there")
        yield view[position : position + length]
        position += length


def _snappy_block(library: Any, block: memoryview, limit_bytes: int) -> bytes:
    try:
        _snappy_size(library, block, limit_bytes)
        return bytes(library.decompress_raw(block))
    except _failures as error:
        raise DecodeError(f"snappy data is corrupt: {error}") from None


def _snappy_size(library: Any, block: memoryview, limit_bytes: int) -> int:
    claimed: int = library.decompress_raw_len(block)
    if claimed > limit_bytes:
        raise _too_large(limit_bytes)
    if claimed > _SNAPPY_RATIO * len(block):
        raise DecodeError(f"snappy block of {len(block)} bytes claims to hold {claimed}")
    return claimed


def _compress_lz4(data: bytes | bytearray | memoryview, level: int | None) -> bytes:
    library = _library(Codec.LZ4)
    view = memoryview(data)
    parts = [_LZ4_HEADER]
    for start in range(0, len(view), _LZ4_BLOCK_BYTES):
        block = view[start : start + _LZ4_BLOCK_BYTES]
        if level is None:
            packed = library.compress_block(block, store_size=False)
        else:
            packed = library.compress_block(
                block, mode="high_compression", compression=level, store_size=False
            )
        if len(packed) < len(block):
            parts.append(_UINT32_LITTLE.pack(len(packed)))
            parts.append(bytes(packed))
        else:
            parts.append(_UINT32_LITTLE.pack(len(block) | _LZ4_STORED))
            parts.append(bytes(block))
    parts.append(_LZ4_END)
    return b"".join(parts)


def _decompress_lz4(data: bytes | bytearray | memoryview, limit_bytes: int) -> bytes | bytearray:
    return _decompress_bounded(_library(Codec.LZ4), data, limit_bytes)


def _compress_zstd(data: bytes | bytearray | memoryview, level: int | None) -> bytes:
    library = _library(Codec.ZSTD)
    return bytes(library.compress(data) if level is None else library.compress(data, level))


def _decompress_zstd(data: bytes | bytearray | memoryview, limit_bytes: int) -> bytes | bytearray:
    return _decompress_bounded(_library(Codec.ZSTD), data, limit_bytes)


def _decompress_bounded(
    library: Any, data: bytes | bytearray | memoryview, limit_bytes: int
) -> bytes | bytearray:
    """Decompresses into a buffer of a likely size, and if that does not do, into one of the limit's size.

    Left to itself the library grows its output without bound. The second buffer is mapped, so that only what is
    written to takes memory.
    """
    output = bytearray(min(limit_bytes, max(_FIRST_GUESS_BYTES, 8 * len(data))))
    try:
        size: int = library.decompress_into(data, output)
    except _failures:
        pass
    else:
        del output[size:]
        return output
    with mmap.mmap(-1, max(limit_bytes, 1)) as large:
        return large[: _decompress_into(library, data, large, limit_bytes)]


def _decompress_into(
    library: Any, data: bytes | bytearray | memoryview, room: mmap.mmap, limit_bytes: int
) -> int:
    try:
        size: int = library.decompress_into(data, room)
    except _failures as error:
        raise DecodeError(
            f"records are corrupt, or take more than {limit_bytes} bytes when decompressed: {error}"
        ) from None
    if size > limit_bytes:
        raise _too_large(limit_bytes)
    return size


def _lz4_into(data: bytes | bytearray | memoryview, room: mmap.mmap, limit_bytes: int) -> int:
    return _decompress_into(_library(Codec.LZ4), data, room, limit_bytes)


def _zstd_into(data: bytes | bytearray | memoryview, room: mmap.mmap, limit_bytes: int) -> int:
    return _decompress_into(_library(Codec.ZSTD), data, room, limit_bytes)


_COMPRESSORS: dict[Codec, Callable[[bytes | bytearray | memoryview, int | None], bytes]] = {
    Codec.GZIP: _compress_gzip,
    Codec.SNAPPY: _compress_snappy,
    Codec.LZ4: _compress_lz4,
    Codec.ZSTD: _compress_zstd,
}

_DECOMPRESSORS: dict[int, Callable[[bytes | bytearray | memoryview, int], bytes | bytearray]] = {
    Codec.GZIP: _decompress_gzip,
    Codec.SNAPPY: _decompress_snappy,
    Codec.LZ4: _decompress_lz4,
    Codec.ZSTD: _decompress_zstd,
}

_INTO: dict[int, Callable[[bytes | bytearray | memoryview, mmap.mmap, int], int]] = {
    Codec.GZIP: _gzip_into,
    Codec.SNAPPY: _snappy_into,
    Codec.LZ4: _lz4_into,
    Codec.ZSTD: _zstd_into,
}
