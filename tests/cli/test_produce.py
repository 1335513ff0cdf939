from __future__ import annotations

import json

import pytest

from barnabas.cli.produce import parse_line

pytestmark = pytest.mark.clients


def consumed(barnabas, topic):
    out = barnabas.done("consume", topic, "--from-beginning", "--until-end", "--format", "json")
    return [json.loads(line) for line in out.splitlines()]


def test_each_line_is_a_record(barnabas, topic):
    """Lines become values in order; the last needs no line break, an empty one is an empty value."""
    ended = barnabas("produce", topic, stdin="one\n\nthree ☃")
    assert ended.returncode == 0
    assert ended.stdout == ""
    assert ended.stderr == f"Sent 3 records to {topic}.\n"
    records = consumed(barnabas, topic)
    assert [record["value"] for record in records] == ["one", "", "three ☃"]
    assert [record["key"] for record in records] == [None] * 3


def test_keys_headers_and_nulls(barnabas, topic):
    """A separator splits keys off, headers go with every record, a marker stands for null."""
    barnabas.done(
        *(
            "produce",
            topic,
            "--key-separator",
            ":",
            "--header",
            "origin=test",
            "--header",
            "n=1=2",
            "--null",
            "NULL",
        ),
        stdin="ann:1:2\nbob:NULL\nNULL:x\n",
    )
    records = consumed(barnabas, topic)
    assert [(record["key"], record["value"]) for record in records] == [
        ("ann", "1:2"),
        ("bob", None),
        (None, "x"),
    ]
    assert all(record["headers"] == [["origin", "test"], ["n", "1=2"]] for record in records)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_codecs(barnabas, topic, codec):
    """Every codec arrives."""
    barnabas.done("produce", topic, "--compression", codec, stdin="x" * 5000 + "\ny\n")
    assert [len(record["value"]) for record in consumed(barnabas, topic)] == [5000, 1]


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_acks(barnabas, topic, acks):
    """Every kind of acknowledgement is taken."""
    assert barnabas("produce", topic, "--acks", acks, stdin="x\n").returncode == 0


def test_a_line_without_separator_stops_there(barnabas, topic):
    """What came before is sent, the line is named, the status says that it failed."""
    ended = barnabas("produce", topic, "--key-separator", ":", stdin="a:1\nnothing\nb:2\n")
    assert ended.returncode == 1
    assert "line 2 has no ':'" in ended.stderr
    assert [record["value"] for record in consumed(barnabas, topic)] == ["1"]


def test_records_that_are_not_stored_are_reported(barnabas, topic_name):
    """The broker's reason is shown and the status says that something is missing."""
    barnabas.done("topics", "create", topic_name, "--config", "max.message.bytes=200")
    ended = barnabas("produce", topic_name, stdin="x" * 1000 + "\n")
    assert ended.returncode == 1
    assert "a record of 1000 bytes was not stored" in ended.stderr
    assert "MSG_SIZE_TOO_LARGE" in ended.stderr
    assert "1 not stored" in ended.stderr


def test_a_partition_that_is_not_there(barnabas, topic):
    """A wrong partition is an error, not an endless attempt."""
    ended = barnabas("produce", topic, "--partition", "7", "--timeout", "3", stdin="x\n")
    assert ended.returncode == 1
    assert "UNKNOWN_PARTITION" in ended.stderr


def test_a_new_topic_is_created_on_the_way(barnabas, topic_name):
    """The first record to a topic creates it, as the broker allows by default."""
    barnabas.done("produce", topic_name, stdin="first\n")
    assert [record["value"] for record in consumed(barnabas, topic_name)] == ["first"]


def test_many_records_keep_their_order(barnabas, topic):
    """More than the library's queue holds goes through, in order."""
    count = 120_000
    ended = barnabas("produce", topic, "--quiet", stdin="".join(f"{n}\n" for n in range(count)))
    assert ended.returncode == 0
    assert ended.stderr == ""
    out = barnabas.done("consume", topic, "--from-beginning", "--until-end")
    assert out == "".join(f"{n}\n" for n in range(count))


def test_options_that_exclude_each_other(command):
    """One key for all and keys in the lines cannot both be meant."""
    ended = command("produce", "t", "--key", "a", "--key-separator", ":")
    assert ended.returncode == 1
    assert "exclude each other" in ended.stderr


@pytest.mark.parametrize(
    ("line", "separator", "null", "expected"),
    [
        (b"a:b", None, None, (b"k", b"a:b")),
        (b"a:b", b":", None, (b"a", b"b")),
        (b"a::b", b"::", None, (b"a", b"b")),
        (b":b", b":", None, (b"", b"b")),
        (b":", b":", b"", (None, None)),
        (b"-", None, b"-", (b"k", None)),
    ],
)
def test_a_line_is_a_key_and_a_value(line, separator, null, expected):
    """The first separator counts; the marker means null."""
    assert parse_line(line, b"k", separator, null) == expected
