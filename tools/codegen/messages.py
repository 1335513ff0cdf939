"""All messages of Kafka's jars, by the room of `wire/messages` that they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.codegen.definitions import NEW_VERSION, OLD_VERSION, read_definitions
from tools.codegen.schema import Message, merge, parse_message

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_messages"]

_ROOM_JARS = {
    "group": "kafka-group-coordinator",
    "transaction": "kafka-transaction-coordinator",
    "share": "kafka-share-coordinator",
    "metadata": "kafka-metadata",
    "storage": "kafka-storage",
}


def read_messages(jars: Path, old_jars: Path) -> dict[str, list[Message]]:
    """The messages in two directories of jars: Kafka's, and the older one's for the lower versions.

    The room "" has the requests and responses; headers, and what no version is left of, are in none.
    """
    old = {
        m.name: m
        for m in map(parse_message, read_definitions(old_jars / f"kafka-clients-{OLD_VERSION}.jar").values())
        if m
    }
    # A version that the older release calls unstable (the request says so) has been promised to nobody.
    unstable = {m.api_key: m.max_version for m in old.values() if m.latest_version_unstable}
    rooms: dict[str, list[Message]] = {"": [], "client": []}
    for definition in read_definitions(jars / f"kafka-clients-{NEW_VERSION}.jar").values():
        message = parse_message(definition)
        if message is None or message.type == "header":
            continue  # headers are written by hand
        before = old.get(message.name)
        if before and unstable.get(before.api_key) != before.max_version:
            message = merge(message, before)
        rooms["" if message.type in ("request", "response") else "client"].append(message)
    for room, jar in _ROOM_JARS.items():
        definitions = read_definitions(jars / f"{jar}-{NEW_VERSION}.jar").values()
        rooms[room] = [m for m in map(parse_message, definitions) if m]
    return rooms
