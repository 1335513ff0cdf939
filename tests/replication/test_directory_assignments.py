"""What the metadata is told of where replicas lie."""

from __future__ import annotations

import asyncio

from barnabas.replication.directory_assignments import DirectoryAssignments

FORMER, NEXT, OTHER = b"a" * 16, b"b" * 16, b"c" * 16
TOPIC = b"t" * 16


def test_what_is_assigned_at_once_is_not_taken_back_by_what_was_noted_before(loop):
    """A note that waits for another one to be written is out of date once the replica moves."""
    written, answers = [], []

    def assign(placed):
        written.append(dict(placed))
        answers.append(loop.create_future())
        return answers[-1]

    async def scenario():
        assignments = DirectoryAssignments(loop, assign)
        assignments.note(TOPIC, 9, OTHER)
        await asyncio.sleep(0)
        assignments.note(TOPIC, 0, FORMER)
        assignments.note(TOPIC, 1, OTHER)
        assignments.assign({(TOPIC, 0): NEXT})
        answers[0].set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(scenario())
    assert written == [{(TOPIC, 9): OTHER}, {(TOPIC, 0): NEXT}, {(TOPIC, 1): OTHER}]
