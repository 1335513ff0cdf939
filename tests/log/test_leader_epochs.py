from __future__ import annotations

import pytest

from barnabas.log.files import Files
from barnabas.log.leader_epochs import UNDEFINED, LeaderEpochs


def epochs_of(*entries):
    epochs = LeaderEpochs()
    for epoch, start_offset in entries:
        epochs.assign(epoch, start_offset)
    epochs.is_dirty = False
    return epochs


@pytest.fixture
def epochs():
    return epochs_of((2, 0), (3, 10), (7, 30))


@pytest.mark.parametrize(
    ("epoch", "offset", "expected"),
    [
        (3, 30, [(2, 0), (3, 10)]),
        (3, 40, [(2, 0), (3, 10)]),
        (3, 29, [(2, 0), (3, 10), (7, 30)]),
        (2, 12, [(2, 0)]),
        (5, 35, [(2, 0), (3, 10), (5, 35)]),
        (7, 50, [(2, 0), (3, 10), (7, 30)]),
    ],
)
def test_a_record_corrects_epochs_that_have_none(epochs, epoch, offset, expected):
    """A file that was not written since a truncation may say that an epoch begins where records of an earlier one are."""
    epochs.correct(epoch, offset)
    assert epochs.entries() == expected
    assert epochs.is_dirty == (expected != [(2, 0), (3, 10), (7, 30)])


class TestAssign:
    def test_the_same_epoch_again(self, epochs):
        """Further batches of the newest epoch change nothing."""
        epochs.assign(7, 35)
        assert epochs.entries() == [(2, 0), (3, 10), (7, 30)]
        assert not epochs.is_dirty

    def test_a_newer_epoch(self, epochs):
        """A newer epoch is added."""
        epochs.assign(9, 30)
        assert epochs.entries() == [(2, 0), (3, 10), (9, 30)]
        assert epochs.is_dirty
        assert epochs.latest == 9

    def test_entries_of_a_lost_leader_go(self, epochs):
        """Entries with a higher epoch or a higher start offset cannot be right after a batch of another leader."""
        epochs.assign(5, 20)
        assert epochs.entries() == [(2, 0), (3, 10), (5, 20)]
        epochs.assign(6, 5)
        assert epochs.entries() == [(2, 0), (6, 5)]

    def test_no_epoch(self, epochs):
        """Batches without an epoch say nothing."""
        epochs.assign(-1, 50)
        assert epochs.latest == 7


class TestEndOffset:
    @pytest.mark.parametrize(
        ("epoch", "expected"),
        [
            (7, (7, 99)),  # the newest one goes up to the log end
            (3, (3, 30)),
            (2, (2, 10)),
            (5, (3, 30)),  # the largest one that is known below it
            (1, (1, 0)),  # before all: the first start offset
            (8, UNDEFINED),  # after all: from a leader that we have not heard of
            (-1, UNDEFINED),
        ],
    )
    def test_end_offset(self, epochs, epoch, expected):
        """An epoch ends where the next known one begins."""
        assert epochs.end_offset(epoch, 99) == expected

    def test_without_entries(self):
        """A log without epochs knows nothing."""
        assert LeaderEpochs().end_offset(0, 10) == UNDEFINED
        assert LeaderEpochs().latest == -1

    @pytest.mark.parametrize(("offset", "epoch"), [(0, 2), (9, 2), (10, 3), (29, 3), (30, 7), (500, 7)])
    def test_epoch_for_offset(self, epochs, offset, epoch):
        """Each offset belongs to the last epoch that began at it or before."""
        assert epochs.epoch_for_offset(offset) == epoch
        assert epochs_of((1, 5)).epoch_for_offset(4) is None


class TestTruncation:
    @pytest.mark.parametrize(
        ("end", "left"),
        [(31, [(2, 0), (3, 10), (7, 30)]), (30, [(2, 0), (3, 10)]), (10, [(2, 0)]), (0, [])],
    )
    def test_from_end(self, epochs, end, left):
        """Epochs that begin at the new end or later go."""
        epochs.truncate_from_end(end)
        assert epochs.entries() == left

    @pytest.mark.parametrize(
        ("start", "left"),
        [
            (0, [(2, 0), (3, 10), (7, 30)]),
            (5, [(2, 5), (3, 10), (7, 30)]),
            (10, [(3, 10), (7, 30)]),
            (29, [(3, 29), (7, 30)]),
            (40, [(7, 40)]),
        ],
    )
    def test_from_start(self, epochs, start, left):
        """The epoch of the new start begins there; older ones go."""
        epochs.truncate_from_start(start)
        assert epochs.entries() == left
        assert epochs.is_dirty == (start != 0)

    def test_clear(self, epochs):
        """Nothing is left."""
        epochs.clear()
        assert epochs.entries() == []
        assert epochs.is_dirty


class TestFile:
    def test_layout(self, epochs):
        """The file has Kafka's layout."""
        assert epochs.encode() == b"0\n3\n2 0\n3 10\n7 30\n"

    def test_round_trip(self, epochs, tmp_path):
        """What was written is read."""
        path = tmp_path / "leader-epoch-checkpoint"
        path.write_bytes(epochs.encode())
        loaded = LeaderEpochs.load(Files(), path)
        assert loaded.entries() == epochs.entries()
        assert not loaded.is_dirty

    @pytest.mark.parametrize("content", [b"0\n1\n1\n", b"0\n1\nx y\n", b"7\n0\n", b"\0\0"])
    def test_damaged(self, tmp_path, content, caplog):
        """A damaged file is remarked upon and written anew."""
        path = tmp_path / "leader-epoch-checkpoint"
        path.write_bytes(content)
        loaded = LeaderEpochs.load(Files(), path)
        assert loaded.entries() == []
        assert loaded.is_dirty
        assert str(path) in caplog.text
        assert "literal" not in caplog.text  # no words of Python's

    def test_missing(self, tmp_path):
        """A missing file says nothing."""
        assert LeaderEpochs.load(Files(), tmp_path / "x").entries() == []
