"""Whether the tables tell the truth about which keys do something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from barnabas.config.broker import FAMILIES
from barnabas.config.group import GROUP_BOUNDS, GROUP_KEYS, GROUP_SYNONYMS
from barnabas.config.keys import BROKER_KEYS
from barnabas.config.topic import TOPIC_KEYS, TOPIC_SYNONYMS

SOURCE = Path(__file__).resolve().parents[2] / "src" / "barnabas"

# Rooms that read settings. The command line speaks of client settings by the same names.
NOT_READERS = ("config", "cli", "wire")

# Read already, for topics that nobody can ask for while there are no share groups.
NOT_YET = ("share.",)

# Read by the controller, which has no log, and so by its name (`controller/topic_rules.py`).
READ_BY_NAME = {"unclean.leader.election.enable"}

# Read by BrokerConfig itself, or before a broker is built.
READ_HERE = {"controller.listener.names", "barnabas.log.format", "barnabas.log.level"}


@pytest.fixture(scope="module")
def source():
    """What the rooms that read settings say."""
    files = (path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] not in NOT_READERS)
    return "\n".join(path.read_text() for path in files)


def is_read(source, name):
    return f'"{name}"' in source


def topic_key_is_read(source, name):
    attribute = "segment_bytes" if name == "internal.segment.bytes" else name.replace(".", "_")
    if name in READ_BY_NAME:
        return is_read(source, name)
    # What is made of a key once, where the room reads that and not the key itself.
    attribute = {
        "cleanup.policy": "(is_compacted|deletes_by_retention)",
        "message.timestamp.type": "log_append_time",
    }.get(name, attribute)
    return re.search(rf"\.{attribute}\b", source) is not None


def test_a_topic_key_is_effective_when_it_is_read(source):
    """A topic key that no room looks at is marked, and one that is looked at is not."""
    wrong = [name for name, key in TOPIC_KEYS.items() if key.effective != topic_key_is_read(source, name)]
    assert wrong == []


def test_a_group_key_is_effective_when_it_is_read(source):
    """A group key that no room looks at is marked, and one that is looked at is not."""
    wrong = [name for name, key in GROUP_KEYS.items() if key.effective != is_read(source, name)]
    assert wrong == []


def test_a_broker_key_is_effective_when_it_is_read(source):
    """A broker key that no room looks at is marked, and one that is looked at is not."""
    behind_topics = {
        synonym: name
        for name, synonyms in TOPIC_SYNONYMS.items()
        for synonym in synonyms
        if synonym.startswith("log.")
    } | {"message.max.bytes": "max.message.bytes"}
    family = {name: names for names in FAMILIES for name in names}
    behind_groups = {synonym: [name] for name, synonym in GROUP_SYNONYMS.items()}
    for name, least, greatest in GROUP_BOUNDS:
        for bound in (least, greatest):
            behind_groups.setdefault(bound, []).append(name)
    wrong = []
    for name, key in BROKER_KEYS.items():
        if name in TOPIC_KEYS:
            expected = topic_key_is_read(source, name)
        elif name in behind_topics:
            expected = topic_key_is_read(source, behind_topics[name]) or is_read(source, name)
        elif name in behind_groups:
            expected = any(is_read(source, each) for each in behind_groups[name])
        elif name.startswith(NOT_YET):
            expected = False
        else:
            expected = name in READ_HERE or any(is_read(source, each) for each in family.get(name, (name,)))
        if key.effective != expected:
            wrong.append(name)
    assert wrong == []
