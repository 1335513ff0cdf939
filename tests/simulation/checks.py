"""What must hold in a simulated cluster in the end, when all is whole again; `ledger.py` looks meanwhile."""

from __future__ import annotations

from barnabas.errors import KafkaError
from tests.simulation.clients import History, Reader, ViolationError, fetch_offset
from tests.simulation.ledger import batches

__all__ = ["check_history", "check_replicas", "check_transactions"]


def check_replicas(world, topics):
    """In the end all replicas of a partition hold the same, to the batch."""
    for topic, count in topics.items():
        for index in range(count):
            found = {}
            for host in world.hosts.values():
                replica = host.broker._replicas.get(topic, index)
                if replica is not None:
                    found[host.name] = list(batches(replica.log, 0, replica.log.log_end_offset))
            first = next(iter(found.values()))
            for name, other in found.items():
                if other != first:
                    raise ViolationError(f"{topic}-{index}: {name} holds {other}, others {first}")


def check_history(world, topic, count, history):
    """What clients were told is so: each acknowledged value is there once, at its offset, and in order."""
    reader = Reader(world, "reader-at-the-end", topic, count, history)
    end_to_end(world, reader)
    values = {}
    for (name, index, offset), value in sorted(history.seen.items()):
        if name == topic:
            values.setdefault(index, []).append((offset, value))
    for index in range(count):
        found = values.get(index, [])
        places = {}
        for offset, value in found:
            if value in places:
                raise ViolationError(f"{topic}-{index}: {value} is at {places[value]} and at {offset}")
            places[value] = offset
        for (name, partition, value), offset in history.acknowledged.items():
            if (name, partition) == (topic, index):
                if value not in places:
                    raise ViolationError(f"{topic}-{index}: {value}, acknowledged at {offset}, is lost")
                if offset is not None and offset >= 0 and places[value] != offset:
                    raise ViolationError(
                        f"{topic}-{index}: {value} was acknowledged at {offset}, is at {places[value]}"
                    )
        for producer, sent in history.sent.get((topic, index), {}).items():
            order = [value for value in sent if value in places]
            if sorted(order, key=places.get) != order:
                raise ViolationError(f"{topic}-{index}: the values of {producer} are not in order")


def check_transactions(world, topic, count, history, watched):
    """Of a transaction all is seen or nothing, its offset too, and what was told is so.

    Args:
        history: Of the producers.
        watched: Of a reader of what is committed, while it was going on.
    """
    end = History()
    reader = Reader(world, "committed-reader", topic, count, end, isolation_level=1)
    end_to_end(world, reader)
    visible = {}
    for (_, index, offset), value in end.seen.items():
        if (index, value) in visible:
            raise ViolationError(f"{topic}-{index}: {value} is at {visible[index, value]} and {offset}")
        visible[index, value] = offset
    for (_, index, offset), value in watched.seen.items():
        if end.seen.get((topic, index, offset)) != value:
            raise ViolationError(
                f"{topic}-{index} at {offset}: {value} was seen as committed, and is not in the end"
            )
    offsets = {}
    for transaction in history.transactions:
        there = [part in visible for part in transaction.parts]
        if any(there) and not all(there):
            raise ViolationError(f"{topic}: only a part of {transaction} is visible")
        if transaction.outcome == "committed" and not all(there):
            raise ViolationError(f"{topic}: {transaction} is not visible")
        if transaction.outcome == "aborted" and any(there):
            raise ViolationError(f"{topic}: {transaction} is visible")
        if transaction.group is not None:
            offsets.setdefault(transaction.group, -1)
            if all(there):
                offsets[transaction.group] = transaction.number
    for group, expected in offsets.items():
        known = end_offset(world, reader, group, topic)
        if known != expected:
            raise ViolationError(
                f"{group} is at {known}, and its last transaction that is visible is {expected}"
            )


def end_offset(world, client, group, topic):
    """What a group has committed for partition 0, when everything is whole."""
    known = None

    async def ask():
        nonlocal known
        while known is None:
            try:
                known, _ = await fetch_offset(client, group, topic, 0)
            except KafkaError as error:
                client.world.trace("%s: %s", group, error)
                client.forget_coordinator(group, 0)
                await client.pause()

    task = world.spawn(client.node, ask(), f"offset of {group}")
    world.run_until(task.done, 60, f"asking for the offset of {group}")
    return known


def end_to_end(world, reader):
    """Lets a reader read everything."""
    idle = 0

    async def read():
        nonlocal idle
        while idle < 3:
            progress = [await reader.read_some(index) for index in range(reader.partitions)]
            idle = 0 if any(progress) else idle + 1

    task = world.spawn(reader.node, read(), reader.name)
    world.run_until(task.done, 120, "reading to the end")
    world.raise_failures()
