from __future__ import annotations

import pytest

from barnabas.log.files import Files
from barnabas.log.partition_metadata import PARTITION_METADATA, encode_partition_metadata, read_topic_id

TOPIC_ID = bytes(range(1, 17))


def test_what_is_written_is_read(tmp_path):
    """A directory knows its topic's id."""
    (tmp_path / PARTITION_METADATA).write_bytes(encode_partition_metadata(TOPIC_ID))
    assert read_topic_id(Files(), tmp_path) == TOPIC_ID


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"version: 0\n",
        b"version: 0\ntopic_id: AQIDBAUG",
        b"version: 1\ntopic_id: AQIDBAUGBwgJCgsMDQ4PEA",
        b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA",
    ],
)
def test_a_torn_file_gives_no_id(tmp_path, content):
    """A file that is missing, torn or of another version says nothing, and does no harm."""
    if content is not None:
        (tmp_path / PARTITION_METADATA).write_bytes(content)
    assert read_topic_id(Files(), tmp_path) is None
