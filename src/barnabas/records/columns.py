"""Many records at once, for compaction: what is done for each of them is done by the interpreter's own loops.

A batch is cut into records by their lengths, one after the other. The rest is arithmetic on columns: the first bytes of all records
make a long integer, the second ones another, with a byte (a lane) for each record. A varint is then read in as many operations as
it has bytes, whatever the number of records, and so are the checks of it. The records may come from many batches, since it takes
some hundreds of them to be worth it.

Only what is usual is read here: records of less than 8 KiB, keys that are neither null nor empty, offsets without gaps. For
the rest there is `filtering.scan_keys`, which reads a record after the other, and says what is wrong with one.
"""

from __future__ import annotations

import struct
from itertools import pairwise, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Heads",
    "UnusualError",
    "check_offsets",
    "cut_records",
    "find_starts",
    "find_tombstones",
    "read_heads",
    "read_keys",
    "read_timestamps",
    "records_between",
]


class UnusualError(Exception):
    """These records are to be read one after the other, which may find them damaged."""


# ----- where the records are

_length_at = struct.Struct("<H").unpack_from
_SIZES: list[int | None] = [None] * 65536
"""The size of a record by its first two bytes: its length in one byte and the attributes, or in two."""
for _length in range(64):
    _SIZES[2 * _length :: 256] = [_length + 1] * 256
for _length in range(64, 8192):
    _SIZES[(2 * _length & 0x7F | 0x80) | _length >> 6 << 8] = _length + 2
del _length


def find_starts(payload: bytes, count: int) -> list[int]:
    """Where each of `count` records begins, and where the last one ends. UnusualError if they do not fill `payload`."""
    starts = [0]
    add, sizes, length_at = starts.append, _SIZES, _length_at
    start = 0
    try:
        for _ in repeat(None, count):
            start += sizes[length_at(payload, start)[0]]  # None is caught
            add(start)
    except (struct.error, TypeError):
        raise UnusualError from None
    if start != len(payload):
        raise UnusualError
    return starts


def records_between(payload: bytes, starts: list[int]) -> list[bytes]:
    """The records that begin at `starts`, but for the last, where the last one ends."""
    return [payload[start:end] for start, end in pairwise(starts)]


def cut_records(payload: bytes, count: int) -> list[bytes]:
    """The `count` records of `payload`. UnusualError if they do not fill it."""
    if count == 1 and len(payload) > 1 and _SIZES[_length_at(payload, 0)[0]] == len(payload):
        return [payload]
    return records_between(payload, find_starts(payload, count))


# ----- varints in columns

_WIDTHS = (8, 16)
"""How much of each record is looked at for where its key is; first with the one, and if that does not do, with the other."""
_ROWS = 64
_rows = {width: struct.Struct(f"{width}s" * _ROWS) for width in _WIDTHS}


def _columns_of(records: list[bytes], width: int) -> list[int]:
    """The first bytes of all, the second ones, and so on; zeros where a record is shorter."""
    pack = _rows[width].pack
    parts = []
    for at in range(0, len(records), _ROWS):
        some = records[at : at + _ROWS]
        parts.append(pack(*some, *repeat(b"", _ROWS - len(some))))
    table = b"".join(parts)
    end = len(records) * width
    return [int.from_bytes(table[at:end:width], "little") for at in range(width)]


class _Varints(NamedTuple):
    """A varint of each record: its bytes in columns (zero where it is shorter), its sizes, and the columns that follow it."""

    columns: list[int]
    sizes: int
    rest: list[int]


def _read_varints(columns: list[int], ones: int) -> _Varints:
    """The varint with which each row begins; `ones` is a one for each."""
    found = []
    ends: list[tuple[int, int]] = []  # a size, and who has it
    sizes = 0
    going = ones
    for column in columns:
        here = column if going == ones else column & going * 0xFF
        found.append(here)
        sizes += going
        still = here >> 7 & ones
        if still != going:
            ends.append((len(found), going ^ still))
            if not still:
                break
        going = still
    else:
        raise UnusualError
    if len(ends) == 1:
        return _Varints(found, sizes, columns[ends[0][0] :])
    rest = [0] * (len(columns) - ends[-1][0])
    for end, who in ends:
        mask = who * 0xFF
        rest = [there | column & mask for there, column in zip(rest, columns[end:], strict=False)]
    return _Varints(found, sizes, rest)


class Heads(NamedTuple):
    """What comes before the keys, and where these are in each record.

    Attributes:
        timestamps, offsets: the varints of the differences from the batch's, in columns.
        key_starts, key_ends: from where to where the key is, counted from the record's beginning.
        key_sizes: the bytes of each.
        longest_key: no key is longer.
    """

    timestamps: list[int]
    offsets: list[int]
    key_starts: bytes
    key_ends: bytes | list[int]
    key_sizes: bytes | list[int]
    longest_key: int


_LONGEST_USUAL = 24
_USUAL_SIZES = bytes(range(_LONGEST_USUAL + 1))


def read_heads(records: list[bytes]) -> Heads:
    """Where the keys of some records are, which may be of several batches. UnusualError if one has none, or is of an odd shape."""
    narrow, wide = _WIDTHS
    try:
        return _heads_in(_columns_of(records, narrow), len(records))
    except UnusualError:
        return _heads_in(_columns_of(records, wide), len(records))


def _heads_in(columns: list[int], count: int) -> Heads:
    ones = int.from_bytes(b"\1" * count, "little")
    lengths = _read_varints(columns, ones)
    timestamps = _read_varints(lengths.rest[1:], ones)
    offsets = _read_varints(timestamps.rest, ones)
    sizes = _read_varints(offsets.rest, ones)
    # One more for the attributes.
    starts = lengths.sizes + ones + timestamps.sizes + offsets.sizes + sizes.sizes
    low = sizes.columns[0]
    if low & ones or len(sizes.columns) > 2:
        raise UnusualError  # no key, or one of 8 KiB
    key_starts = starts.to_bytes(count, "little")
    if len(sizes.columns) == 1:
        key_sizes = (low >> 1).to_bytes(count, "little")
        key_ends = (starts + (low >> 1)).to_bytes(count, "little")
        longest = max(key_sizes.translate(None, _USUAL_SIZES), default=_LONGEST_USUAL)
        return Heads(timestamps.columns, offsets.columns, key_starts, key_ends, key_sizes, longest)
    halves = ((low & ones * 0x7F) >> 1).to_bytes(count, "little")
    highs = sizes.columns[1].to_bytes(count, "little")
    large_sizes = [half + (high << 6) for half, high in zip(halves, highs, strict=True)]
    large_ends = [start + size for start, size in zip(key_starts, large_sizes, strict=True)]
    return Heads(timestamps.columns, offsets.columns, key_starts, large_ends, large_sizes, max(large_sizes))


# ----- keys


def read_keys(records: list[bytes], heads: Heads) -> list[bytes]:
    """The keys of some records. UnusualError if one is empty, or does not end within its record."""
    starts, ends, sizes = heads.key_starts, heads.key_ends, heads.key_sizes
    if starts.count(starts[0]) == len(starts) and ends.count(ends[0]) == len(ends):
        keys = list(map(itemgetter(slice(starts[0], ends[0])), records))
    else:
        keys = [record[start:end] for record, start, end in zip(records, starts, ends, strict=True)]
    # What goes beyond its record was cut short, which shows unless it is empty anyway.
    if len(b"".join(keys)) != sum(sizes) or sizes.count(0):
        raise UnusualError
    return keys


# ----- offsets

_MOST_RECORDS = 1 << 20
_expected = [b"", b"", b""]
"""The columns of the offset deltas 0, 1, 2 and so on."""


def _expect(count: int) -> None:
    """Prepares the offset deltas of so many records. UnusualError for a batch of more than a million."""
    if count > _MOST_RECORDS:
        raise UnusualError
    folded = range(0, 4 * max(count, 1024), 2)
    _expected[0] = bytes([number & 0x7F | (0x80 if number > 0x7F else 0) for number in folded])
    _expected[1] = bytes([number >> 7 & 0x7F | (0x80 if number > 0x3FFF else 0) for number in folded])
    _expected[2] = bytes([number >> 14 & 0x7F for number in folded])


def check_offsets(heads: Heads, counts: Sequence[int]) -> None:
    """That the offsets are those that follow their batches' base offsets, UnusualError if not.

    Args:
        heads: of the records.
        counts: how many of them are of each batch.
    """
    most = max(counts)
    if most > len(_expected[0]):
        _expect(most)
    columns = heads.offsets
    if len(columns) > len(_expected):
        raise UnusualError
    for known, column in zip(_expected, columns, strict=False):
        expected = b"".join([known[:count] for count in counts])
        if column.to_bytes(len(expected), "little") != expected:
            raise UnusualError


# ----- values and times


def find_tombstones(records: Iterable[bytes], key_ends: Iterable[int]) -> list[int]:
    """Which of some records have no value, by their place. UnusualError if one ends before its value."""
    try:
        # The zig-zag form of a negative length, which is a null, is odd in its first byte.
        bits = [record[end] & 1 for record, end in zip(records, key_ends, strict=True)]
    except IndexError:
        raise UnusualError from None
    return [at for at, bit in enumerate(bits) if bit] if 1 in bits else []


def read_timestamps(heads: Heads) -> list[int]:
    """The timestamp deltas."""
    columns, count = heads.timestamps, len(heads.key_starts)
    if len(columns) == 1:
        folded: Sequence[int] = columns[0].to_bytes(count, "little")
    elif len(columns) <= 8:
        rows = bytearray(8 * count)
        for at, column in enumerate(columns):
            rows[at::8] = column.to_bytes(count, "little")
        table = int.from_bytes(rows, "little")
        seven_bits = int.from_bytes(b"\x7f\0\0\0\0\0\0\0" * count, "little")
        joined = 0
        for at in range(len(columns)):
            joined |= (table & seven_bits << 8 * at) >> at
        folded = struct.unpack(f"<{count}Q", joined.to_bytes(8 * count, "little"))
    else:
        raise UnusualError
    return [(number >> 1) ^ -(number & 1) for number in folded]
