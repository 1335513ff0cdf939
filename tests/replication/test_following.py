"""Where a follower cuts its log."""

from __future__ import annotations

import pytest

from barnabas.replication.following import agreed_offset


@pytest.mark.parametrize(
    ("leader", "own", "log_end_offset", "agreed"),
    [
        ((3, 20), (3, 25), 30, 20),  # the leader's epoch ended earlier
        ((3, 25), (3, 20), 20, 20),  # ours did
        ((3, 20), (2, 15), 30, 15),  # epoch 3 is not known here: back to the end of what came before it
        ((3, 20), (-1, -1), 18, 18),  # nothing is known here
        ((3, 20), (-1, -1), 30, 20),
        ((-1, 7), (2, 15), 30, 7),  # the leader knows no epoch as early as ours
    ],
)
def test_where_two_logs_agree(leader, own, log_end_offset, agreed):
    """At the end of the last epoch that both know, wherever it ends first (KIP-279)."""
    assert agreed_offset(*leader, *own, log_end_offset) == agreed
