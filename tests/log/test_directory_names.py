from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.log.directory_names import (
    DELETE_SUFFIX,
    STRAY_SUFFIX,
    DirectoryName,
    parse_directory_name,
    partition_directory_name,
    suffixed_directory_name,
)

topics = st.text("abcXYZ019._-", min_size=1, max_size=249)
partitions = st.integers(0, 2**31 - 1)


@given(topics, partitions)
def test_every_topic_name_survives(topic, partition):
    """Whatever a topic is called, dots and dashes included, its directory says so."""
    assert parse_directory_name(partition_directory_name(topic, partition)) == DirectoryName(
        topic, partition, ""
    )


@given(topics, partitions, st.sampled_from([DELETE_SUFFIX, STRAY_SUFFIX]))
def test_suffixed_names(topic, partition, suffix):
    """A directory that goes out of use keeps its partition's name as far as a file system has room for it."""
    name = suffixed_directory_name(topic, partition, suffix)
    assert len(name) <= 255
    assert name != suffixed_directory_name(topic, partition, suffix)
    parsed = parse_directory_name(name)
    assert topic.startswith(parsed.topic)
    assert parsed[1:] == (partition, suffix)


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("orders-0.2b1e-delete", DirectoryName("orders", 0, "-delete")),
        ("orders-0.2b1e-future", DirectoryName("orders", 0, "-future")),
        ("orders-delete-3", DirectoryName("orders-delete", 3, "")),
        ("a.b-0.x-stray", DirectoryName("a.b", 0, "-stray")),
        ("lost+found", None),
        ("orders", None),
        ("orders-", None),
        ("-3", None),
        ("orders-03", None),
        ("orders-²", None),
        ("orders-0-delete", None),
        ("orders-0.-delete", None),
    ],
)
def test_names(name, parsed):
    """Names as Apache Kafka gives them; others belong to no partition."""
    assert parse_directory_name(name) == parsed
