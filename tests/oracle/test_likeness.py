"""What makes answers of two brokers comparable does not depend on luck."""

from __future__ import annotations

import itertools
import uuid

from barnabas.wire.messages.join_group import JoinGroupResponse
from tests.oracle.building import build
from tests.oracle.likeness import Likeness, differences


def test_made_up_ids_in_a_list_without_an_order_are_numbered_alike():
    """However the broker orders them: `range` assigns by the names that members have, and so they are told apart by these."""
    plain = []
    for order in itertools.permutations(range(3)):
        ids = [f"c{number}-{uuid.uuid4()}" for number in range(3)]
        members = [
            {"member_id": ids[number], "group_instance_id": f"c{number}", "metadata": b""} for number in order
        ]
        answer = build(JoinGroupResponse, leader=ids[1], member_id=ids[1], members=members)
        likeness = Likeness()
        plain.append([likeness(answer), likeness(ids[0], "member_id")])
    for other in plain[1:]:
        assert not differences(plain[0], other)
