"""The metrics that clients push (KIP-714): OpenTelemetry's `MetricsData`, version 1, in Protocol Buffers.

Only what a number and its labels need is read:

    MetricsData     1 ResourceMetrics*
    ResourceMetrics 1 Resource (1 KeyValue*)    2 ScopeMetrics*
    ScopeMetrics    2 Metric*
    Metric          1 name   5 gauge   7 sum   9 histogram   11 summary
    gauge, ...      1 points*   2 temporality (1 delta, 2 cumulative)   3 whether a sum only grows
    point           4 double (gauge, sum) or count   5 sum (histogram, summary)   6 sfixed64   7 or 9 KeyValue*
    KeyValue        1 key   2 AnyValue (1 string, 2 bool, 3 int64, 4 double)

Source: opentelemetry-proto 1.3, metrics.proto; the encoding of Protocol Buffers.
"""

from __future__ import annotations

from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FIELDS_MAX", "LABELS_MAX", "Point", "decode_metrics"]

FIELDS_MAX = 500_000
"""A number of a real client takes some 25, with its labels."""
LABELS_MAX = 20

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GAUGE, _SUM, _HISTOGRAM, _SUMMARY = 5, 7, 9, 11
_DATA = frozenset({_GAUGE, _SUM, _HISTOGRAM, _SUMMARY})
_DELTA = 1
_VARINT_BITS_MAX = 63

_double = Struct("<d").unpack_from
_signed = Struct("<q").unpack_from
_unsigned = Struct("<Q").unpack_from

Labels = tuple[tuple[str, str], ...]


class Point(NamedTuple):
    """One number of a client.

    Attributes:
        name: The metric's name, as `org.apache.kafka.producer.connection.creation.total`; of histograms and summaries with
            `.count` or `.sum` at the end.
        labels: What tells it from others of the name; those of the client come first.
        value: The number.
        is_counter: Whether it only grows.
        is_delta: Whether it is to be added to the one before.
    """

    name: str
    labels: Labels
    value: float
    is_counter: bool
    is_delta: bool


def decode_metrics(data: bytes | bytearray | memoryview, points_max: int = FIELDS_MAX) -> list[Point]:
    """The numbers in `MetricsData`, the first `points_max` of them, with the first `LABELS_MAX` labels of each kind.

    Whatever a client sends, this takes about half a second and, beside the numbers, next to no memory.

    Raises:
        DecodeError: it is not that, or has more than `FIELDS_MAX` fields.
    """
    return list(islice(_Decoder().points(memoryview(data)), points_max))


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(view) or shift > _VARINT_BITS_MAX:
            raise DecodeError("a number of the metrics does not end")
        octet = view[position]
        position += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
        shift += 7


def _text(content: memoryview) -> str:
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError:
        raise DecodeError("a text of the metrics is not UTF-8") from None


class _Decoder:
    """Reads one push. Nothing is listed that could be long: what is needed first is looked for in a pass of its own."""

    __slots__ = ("_fields_left",)

    def __init__(self) -> None:
        self._fields_left = FIELDS_MAX

    def _fields(self, view: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        """Number, wire type and content of each field; a varint's content is its octets."""
        position = 0
        while position < len(view):
            if not self._fields_left:
                raise DecodeError("the metrics have too many fields")
            self._fields_left -= 1
            tag, position = _varint(view, position)
            kind = tag & 7
            start = position
            if kind == _VARINT:
                _, position = _varint(view, position)
            elif kind == _FIXED64:
                position += 8
            elif kind == _FIXED32:
                position += 4
            elif kind == _BYTES:
                size, start = _varint(view, position)
                position = start + size
            else:
                raise DecodeError(f"the metrics have a field of the unknown kind {kind}")
            if position > len(view) or tag < 8:
                raise DecodeError("a field of the metrics does not end")
            yield tag >> 3, kind, view[start:position]

    def points(self, view: memoryview) -> Iterator[Point]:
        """All numbers."""
        for field, kind, resource_metrics in self._fields(view):
            if field == 1 and kind == _BYTES:
                yield from self._resource_metrics(resource_metrics)

    def _resource_metrics(self, view: memoryview) -> Iterator[Point]:
        labels: list[tuple[str, str]] = []
        for field, kind, content in self._fields(view):
            if field == 1 and kind == _BYTES:
                for number, sort, each in self._fields(content):
                    if (number, sort) == (1, _BYTES) and len(labels) < LABELS_MAX:
                        labels.append(self._key_value(each))
        for field, kind, scope in self._fields(view):
            if field == 2 and kind == _BYTES:
                for number, sort, metric in self._fields(scope):
                    if (number, sort) == (2, _BYTES):
                        yield from self._metric(metric, labels)

    def _key_value(self, view: memoryview) -> tuple[str, str]:
        key = value = ""
        for field, kind, content in self._fields(view):
            if kind == _BYTES and field == 1:
                key = _text(content)
            elif kind == _BYTES and field == 2:
                for number, sort, part in self._fields(content):
                    value = _any_value(number, sort, part)
        return key, value

    def _metric(self, view: memoryview, labels: list[tuple[str, str]]) -> Iterator[Point]:
        name = ""
        has_data = False
        for field, kind, content in self._fields(view):
            if field == 1 and kind == _BYTES:
                name = _text(content)
            has_data |= kind == _BYTES and field in _DATA
        if not name and has_data:
            raise DecodeError("a metric has no name")
        for sort, kind, content in self._fields(view):
            if kind == _BYTES and sort in _DATA:
                yield from self._data(name, sort, content, labels)

    def _data(
        self, name: str, sort: int, content: memoryview, labels: list[tuple[str, str]]
    ) -> Iterator[Point]:
        temporality = monotonic = 0
        for field, kind, part in self._fields(content):
            if field == 2 and kind == _VARINT:
                temporality = _varint(part, 0)[0]
            elif field == 3 and kind == _VARINT:
                monotonic = _varint(part, 0)[0]
        is_delta = sort != _GAUGE and temporality == _DELTA
        for field, kind, point in self._fields(content):
            if field != 1 or kind != _BYTES:
                continue
            if sort in (_GAUGE, _SUM):
                number, own = self._number_point(point)
                is_counter = sort == _SUM and bool(monotonic)
                yield Point(name, (*labels, *own), number, is_counter, is_delta)
            else:
                count, total, own = self._distribution_point(point, 9 if sort == _HISTOGRAM else 7)
                yield Point(f"{name}.count", (*labels, *own), count, True, is_delta)
                yield Point(f"{name}.sum", (*labels, *own), total, False, is_delta)

    def _number_point(self, view: memoryview) -> tuple[float, list[tuple[str, str]]]:
        number: float = 0
        labels: list[tuple[str, str]] = []
        for field, kind, content in self._fields(view):
            if kind == _FIXED64 and field == 4:
                (number,) = _double(content)
            elif kind == _FIXED64 and field == 6:
                (number,) = _signed(content)
            elif kind == _BYTES and field == 7 and len(labels) < LABELS_MAX:
                labels.append(self._key_value(content))
        return number, labels

    def _distribution_point(
        self, view: memoryview, attributes_field: int
    ) -> tuple[float, float, list[tuple[str, str]]]:
        count: float = 0
        total: float = 0
        labels: list[tuple[str, str]] = []
        for field, kind, content in self._fields(view):
            if kind == _FIXED64 and field == 4:
                (count,) = _unsigned(content)
            elif kind == _FIXED64 and field == 5:
                (total,) = _double(content)
            elif kind == _BYTES and field == attributes_field and len(labels) < LABELS_MAX:
                labels.append(self._key_value(content))
        return count, total, labels


def _any_value(number: int, kind: int, content: memoryview) -> str:
    if (number, kind) == (1, _BYTES):
        return _text(content)
    if (number, kind) == (4, _FIXED64):
        return str(_double(content)[0])
    if kind == _VARINT:
        value = _varint(content, 0)[0]
        if number == 2:
            return "true" if value else "false"
        return str(value - (1 << 64) if value >> 63 else value)
    return ""
