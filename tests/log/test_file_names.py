from __future__ import annotations

import pytest

from barnabas.log.file_names import SEGMENT_SUFFIXES, parse_file_name, segment_file_name


@pytest.mark.parametrize("suffix", sorted(SEGMENT_SUFFIXES))
@pytest.mark.parametrize("base_offset", [0, 1188, 2**63 - 1])
def test_round_trip(base_offset, suffix):
    """A name says base offset and kind, in twenty digits."""
    name = segment_file_name(base_offset, suffix)
    assert len(name) == 20 + len(suffix)
    assert parse_file_name(name) == (base_offset, suffix)


@pytest.mark.parametrize(
    "name",
    [
        "1.log",
        "00000000000000000000.log.deleted",
        "00000000000000000000.snapshot",
        "0000000000000000000x.log",
        "-0000000000000000001.log",
        "000000000000000000000.log",
        "\u0660" * 20 + ".log",
        "partition.metadata",
        "",
    ],
)
def test_other_names(name):
    """Anything else is no segment's file."""
    assert parse_file_name(name) is None
