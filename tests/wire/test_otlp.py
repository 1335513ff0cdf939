"""Metrics in OpenTelemetry's encoding: numbers, labels, and whatever else may come."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.errors import DecodeError
from barnabas.wire.otlp import Point, decode_metrics


def varint(number):
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def nested(field, *parts):
    content = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(content)) + content


def text(field, value):
    return nested(field, value.encode())


def number(field, value):
    return varint(field << 3) + varint(value)


def double(field, value):
    return varint(field << 3 | 1) + struct.pack("<d", value)


def integer(field, value):
    return varint(field << 3 | 1) + struct.pack("<q", value)


def label(field, key, value):
    return nested(field, text(1, key), nested(2, value if isinstance(value, bytes) else text(1, value)))


def metrics(*parts, resource=b""):
    return nested(
        1, nested(1, resource), nested(2, text(3, "scope's schema"), *(nested(2, part) for part in parts))
    )


def metric(name, kind, *parts):
    return text(1, name) + text(2, "what it is") + text(3, "ms") + nested(kind, *parts)


GAUGE, SUM, HISTOGRAM, SUMMARY = 5, 7, 9, 11


def test_gauges_and_sums():
    """Doubles and integers; the client's labels come before a number's own."""
    data = metrics(
        metric("g", GAUGE, nested(1, double(4, 1.5), integer(2, 7), label(7, "node", "1"))),
        metric("s", SUM, nested(1, integer(6, -3)), number(2, 1), number(3, 1)),
        metric("c", SUM, nested(1, integer(6, 9)), number(2, 2)),
        resource=label(1, "rack", "r1"),
    )
    rack = ("rack", "r1")
    assert decode_metrics(data) == [
        Point("g", (rack, ("node", "1")), 1.5, False, False),
        Point("s", (rack,), -3, True, True),
        Point("c", (rack,), 9, False, False),
    ]


def test_histograms_and_summaries_give_count_and_sum():
    """Their buckets and quantiles do not count."""
    data = metrics(
        metric(
            "h",
            HISTOGRAM,
            nested(1, integer(4, 3), double(5, 0.5), text(6, "buckets"), label(9, "a", "b")),
            number(2, 2),
        ),
        metric("q", SUMMARY, nested(1, integer(4, 2), double(5, 7.0), nested(6, double(1, 0.5)))),
    )
    assert decode_metrics(data) == [
        Point("h.count", (("a", "b"),), 3, True, False),
        Point("h.sum", (("a", "b"),), 0.5, False, False),
        Point("q.count", (), 2, True, False),
        Point("q.sum", (), 7.0, False, False),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (text(1, "é"), "é"),
        (number(2, 1), "true"),
        (number(2, 0), "false"),
        (number(3, -5), "-5"),
        (double(4, 0.25), "0.25"),
        (text(7, "octets"), ""),
    ],
)
def test_labels_of_any_kind_become_text(value, expected):
    """What has no text is empty."""
    data = metrics(metric("g", GAUGE, nested(1, double(4, 1.0), label(7, "k", value))))
    assert decode_metrics(data)[0].labels == (("k", expected),)


def test_nothing_is_no_metrics():
    """An empty message, and one of fields that nobody knows."""
    assert decode_metrics(b"") == []
    assert decode_metrics(text(9, "later") + varint(10 << 3 | 5) + b"abcd" + number(11, 3)) == []


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0b",
        b"\x09abc",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x02\x00",
        metrics(metric("", GAUGE, nested(1, double(4, 1.0)))),
        metrics(nested(1, b"\xff\xfe")),
    ],
)
def test_what_is_no_metrics_is_refused(data):
    """Torn, without end, not text, without a name."""
    with pytest.raises(DecodeError):
        decode_metrics(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_metrics_or_refused(data):
    """Nothing else happens."""
    with contextlib.suppress(DecodeError):
        decode_metrics(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(metrics(metric("g", GAUGE, b"\x0a\x00" * (8 << 20))), id="points"),
        pytest.param(metrics(metric("g", HISTOGRAM, b"\x0a\x00" * (8 << 20))), id="histograms"),
        pytest.param(nested(1, b"\x12\x00" * (8 << 20)), id="scopes"),
        pytest.param(nested(1, nested(2, b"\x12\x00" * (8 << 20))), id="metrics"),
        pytest.param(metrics(text(1, "g") + b"\x2a\x00" * (8 << 20)), id="data"),
        pytest.param(
            metrics(metric("g", GAUGE, b"\x0a\x00" * (4 << 20)), resource=b"\x0a\x00" * (4 << 20)),
            id="labels",
        ),
        pytest.param(b"\x0a\x00" * (8 << 20), id="resources"),
    ],
)
def test_what_unpacks_to_millions_costs_little(data, monkeypatch):
    """Sixteen megabytes of nothing much: refused or cut off, with next to no memory."""
    monkeypatch.setattr("barnabas.wire.otlp.FIELDS_MAX", 10_000)
    tracemalloc.start()
    try:
        assert len(decode_metrics(data, 3_000)) == 3_000
    except DecodeError as error:
        assert "too many fields" in str(error)  # noqa: PT017 - either will do
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 2 << 20


def test_labels_beyond_twenty_are_left_out():
    """Of the client and of a number."""
    many = [label(1, f"k{number}", "v") for number in range(30)]
    own = [label(7, f"o{number}", "v") for number in range(30)]
    (point,) = decode_metrics(metrics(metric("g", GAUGE, nested(1, *own)), resource=b"".join(many)))
    assert len(point.labels) == 40
