from __future__ import annotations

import pytest

from barnabas.log.clean_shutdown import decode_clean_shutdown, encode_clean_shutdown


@pytest.mark.parametrize("epoch", [-1, 0, 12])
def test_the_broker_epoch_is_kept(epoch):
    """The marker carries the epoch under which the broker stopped."""
    assert decode_clean_shutdown(encode_clean_shutdown(epoch)) == epoch


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"brokerEpoch":"x"}', b"7", b"\xff"])
def test_a_marker_without_an_epoch_is_still_one(content):
    """Older brokers leave it empty."""
    assert decode_clean_shutdown(content) == -1
