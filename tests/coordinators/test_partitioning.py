"""Java's String.hashCode decides which partition holds a group."""

import pytest

from barnabas.coordinators.partitioning import java_string_hash, partition_for


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("polygenelubricants", -(2**31)),
        ("Grüße", 69215351),
        ("日本語", 25921943),
        ("\U0001f600", 1772899),
    ],
)
def test_hashes_are_javas(text, number):
    """Over UTF-16 code units, with overflow."""
    assert java_string_hash(text) == number


def test_the_least_number_has_no_positive_counterpart():
    """Kafka takes 0 for it."""
    assert partition_for("polygenelubricants", 50) == 0


@pytest.mark.parametrize(("group", "partition"), [("hello", 22), ("a", 47), ("", 0)])
def test_partitions_are_kafkas(group, partition):
    """The absolute value modulo the number of partitions."""
    assert partition_for(group, 50) == partition
