from __future__ import annotations

import pytest

from barnabas.log.clean_shutdown import CleanShutdown, decode_clean_shutdown, encode_clean_shutdown
from barnabas.log.running_mark import decode_running_mark, encode_running_mark


@pytest.mark.parametrize("epoch", [-1, 0, 12])
@pytest.mark.parametrize("checksums", [None, {}, {"recovery-point-offset-checkpoint": 0xDEADBEEF, "b": 0}])
def test_epoch_and_checksums_are_kept(epoch, checksums):
    """The marker carries the epoch under which the broker stopped, and what its checkpoints were."""
    marker = CleanShutdown(epoch, checksums)
    assert decode_clean_shutdown(encode_clean_shutdown(marker)) == marker


def test_the_marker_of_apache_kafka():
    """It has no checksums."""
    assert encode_clean_shutdown(CleanShutdown(12, None)) == b'{"version":0,"brokerEpoch":12}'


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"brokerEpoch":"x"}', b"7", b"\xff"])
def test_a_marker_without_an_epoch_is_still_one(content):
    """Older brokers leave it empty."""
    assert decode_clean_shutdown(content) == (-1, None)


def test_a_running_mark_names_boot_and_epoch():
    """What it says is read back."""
    assert decode_running_mark(encode_running_mark("a-b", 12)) == ("a-b", 12)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"bootId":"x"}', b'{"bootId":1,"brokerEpoch":2}', b"\xff"]
)
def test_a_running_mark_that_cannot_be_read_says_nothing(content):
    """A failure of power may leave anything."""
    assert decode_running_mark(content) == ("", -1)
