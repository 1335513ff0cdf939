from __future__ import annotations

import struct

import pytest

from barnabas.errors import DecodeError
from barnabas.log.files import Files
from barnabas.log.transaction_index import AbortedTransaction, TransactionIndex

ABORTED = [
    AbortedTransaction(1, 100, 110, 105),
    AbortedTransaction(2, 105, 120, 121),
    AbortedTransaction(1, 130, 140, 141),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "00000000000000000100.txnindex"


@pytest.fixture
def index(path):
    index = TransactionIndex(Files(), path, 100)
    for transaction in ABORTED:
        index.append(transaction)
    return index


class TestTransactionIndex:
    def test_layout(self, index, path):
        """Entries are a 16-bit version and four 64-bit numbers, in the file as soon as they are appended."""
        assert path.read_bytes() == b"".join(struct.pack(">hqqqq", 0, *entry) for entry in ABORTED)

    def test_no_file_without_aborted_transactions(self, path):
        """Most segments have none, and no file."""
        index = TransactionIndex(Files(), path, 100)
        assert index.is_empty
        assert not index.exists
        assert index.collect(0, 1000, []) is False
        assert not path.exists()

    def test_reopened(self, index, path):
        """After a reopening the same entries are there."""
        reopened = TransactionIndex(Files(), path, 100, size=path.stat().st_size)
        assert reopened.entries() == index.entries() == ABORTED
        assert not reopened.is_empty

    @pytest.mark.parametrize(
        ("start", "end", "expected", "is_complete"),
        [
            (100, 106, ABORTED[:2], True),
            (100, 105, ABORTED[:1], True),
            (111, 130, ABORTED[1:2], True),
            (111, 131, ABORTED[1:], True),
            (141, 200, [], False),
            (121, 125, [], True),
        ],
    )
    def test_collect(self, index, start, end, expected, is_complete):
        """Those with records in the range are found; whether later segments may have more is said."""
        found = []
        assert index.collect(start, end, found) is is_complete
        assert found == expected

    @pytest.mark.parametrize(("offset", "count"), [(141, 3), (140, 2), (111, 1), (110, 0)])
    def test_truncate(self, index, path, offset, count):
        """Transactions whose marker is at the offset or later go."""
        index.truncate_to(offset)
        assert index.entries() == ABORTED[:count]
        assert path.stat().st_size == 34 * count
        index.append(ABORTED[2])
        assert index.entries() == [*ABORTED[:count], ABORTED[2]]

    @pytest.mark.parametrize("damage", [b"x" * 33, b"\0\1" + b"\0" * 32, b"\0" * 34, b"\0" * 300])
    def test_drop_damaged(self, index, path, damage):
        """What a power failure left behind the good entries is dropped."""
        good = path.read_bytes()
        path.write_bytes(good + damage)
        reopened = TransactionIndex(Files(), path, 100, size=len(good + damage))
        reopened.drop_damaged()
        assert reopened.entries() == ABORTED
        assert path.read_bytes() == good

    @pytest.mark.parametrize("content", [b"x" * 33, b"\0\1" + b"\0" * 32, b"\0" * 34])
    def test_damaged(self, path, content):
        """A torn entry, another version, a marker before the segment: the error names the file."""
        path.write_bytes(content)
        index = TransactionIndex(Files(), path, 100, size=len(content))
        with pytest.raises(DecodeError, match="txnindex"):
            index.entries()
