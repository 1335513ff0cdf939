from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.errors import StorageError
from barnabas.log.checkpoints import OffsetCheckpoint, decode_checkpoint, encode_checkpoint
from barnabas.log.files import Files

topics = st.text(st.sampled_from("abcXYZ019._-"), min_size=1, max_size=30)


@pytest.fixture
def checkpoint(tmp_path):
    return OffsetCheckpoint(Files(), tmp_path / "recovery-point-offset-checkpoint")


class TestOffsetCheckpoint:
    def test_layout(self, checkpoint):
        """The file has Kafka's layout: version, number of lines, topic partition offset."""
        checkpoint.write({("orders", 0): 1200, ("a.b", 13): 0})
        assert checkpoint.path.read_bytes() == b"0\n2\norders 0 1200\na.b 13 0\n"

    @given(offsets=st.dictionaries(st.tuples(topics, st.integers(0, 9999)), st.integers(0, 2**63 - 1)))
    def test_round_trip(self, tmp_path_factory, offsets):
        """What was written is read."""
        checkpoint = OffsetCheckpoint(Files(), tmp_path_factory.mktemp("c") / "c")
        checkpoint.write(offsets)
        assert checkpoint.read() == offsets

    def test_missing_and_empty_files_have_no_offsets(self, checkpoint):
        """A missing file says nothing, and neither does an empty one, as Kafka creates it."""
        assert checkpoint.read() == {}
        checkpoint.path.write_bytes(b"")
        assert checkpoint.read() == {}

    @pytest.mark.parametrize(
        "content",
        [
            b"1\n0\n",
            b"0\n",
            b"0\nx\n",
            b"0\n2\na 0 1\n",
            b"0\n1\na 0 1\nb 0 1\n",
            b"0\n1\na 0\n",
            b"0\n1\na 0 b\n",
            b"0\n1\na b 1 2\n",
            b"\xff\xfe",
            b"\n",
            b"\0" * 20,
        ],
    )
    def test_damaged_files(self, checkpoint, content):
        """A damaged file is a StorageError that names it, never silently half of the offsets."""
        checkpoint.path.write_bytes(content)
        with pytest.raises(StorageError, match="recovery-point-offset-checkpoint"):
            checkpoint.read()

    @given(content=st.binary(max_size=60))
    def test_garbage(self, tmp_path_factory, content):
        """Whatever is in the file, reading it gives offsets or a StorageError."""
        path = tmp_path_factory.getbasetemp() / "garbage"
        try:
            decode_checkpoint(content, path)
        except StorageError:
            return


def test_lines():
    """Lines of any fields survive."""
    assert decode_checkpoint(encode_checkpoint(["1 2", "3 4"]), "x") == [["1", "2"], ["3", "4"]]
