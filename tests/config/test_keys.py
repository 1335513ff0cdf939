from __future__ import annotations

import pytest

from barnabas.config.definition import READ_ONLY, ConfigType
from barnabas.config.group import GROUP_KEYS, GROUP_SYNONYMS
from barnabas.config.keys import BROKER_KEYS
from barnabas.config.names import broker_key
from barnabas.config.removed import REMOVED
from barnabas.config.topic import TOPIC_KEYS, TOPIC_SYNONYMS

ALL_KEYS = [*BROKER_KEYS.values(), *TOPIC_KEYS.values(), *GROUP_KEYS.values()]


def test_every_key_is_one_short_sentence():
    """Every key says what it does in one sentence that a table has room for."""
    for key in ALL_KEYS:
        assert key.sentence.endswith("."), key
        assert key.sentence[0].isupper(), key
        assert 10 < len(key.sentence) <= 200, key
        assert "|" not in key.sentence, key


def test_defaults_lie_in_their_range():
    """A default is of its type and satisfies its own range."""
    kinds = {
        ConfigType.BOOLEAN: bool,
        ConfigType.LIST: tuple,
        ConfigType.DOUBLE: float,
        ConfigType.STRING: str,
        ConfigType.CLASS: str,
    }
    for key in ALL_KEYS:
        if key.default is not None:
            assert type(key.default) is kinds.get(key.type, int), key
            assert key.validator is None or key.validator.complaint(key.name, key.default) is None, key


def test_a_default_that_is_not_kafkas_has_a_reason():
    """Whoever changes a default says why."""
    for key in ALL_KEYS:
        if key.default != key.kafka_default:
            assert key.differs.endswith("."), key.name


def test_removed_keys_are_not_keys():
    """A key is either known or gone, and what is gone names a remedy."""
    assert not REMOVED.keys() & BROKER_KEYS.keys()
    assert all(removed.remedy.endswith(".") for removed in REMOVED.values())


def test_synonyms_exist():
    """What topic and group keys fall back on are broker keys of the same effect."""
    for name, synonyms in TOPIC_SYNONYMS.items():
        assert all(synonym in BROKER_KEYS for synonym in synonyms)
        assert BROKER_KEYS[synonyms[0]].effective == TOPIC_KEYS[name].effective, name
    for name, synonym in GROUP_SYNONYMS.items():
        assert BROKER_KEYS[synonym].effective == GROUP_KEYS[name].effective, name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log.dirs", "log.dirs"),
        ("listener.name.internal.ssl.keystore.location", "ssl.keystore.location"),
        ("listener.name.internal.scram-sha-256.sasl.jaas.config", "sasl.jaas.config"),
        ("listener.name.internal.plain.connections.max.reauth.ms", "connections.max.reauth.ms"),
        ("listener.name.internal.nothing", None),
        ("listener.name.internal.plain.log.dirs", None),
        ("nothing", None),
    ],
)
def test_listener_prefixes_are_understood(name, expected):
    """A key for one listener, or for one mechanism of a listener, is that key."""
    key = broker_key(name)
    assert (key.name if key else None) == expected


def test_our_own_keys_are_prefixed():
    """Nothing that Kafka does not know is without our prefix."""
    ours = [name for name in BROKER_KEYS if name.startswith("barnabas.")]
    assert "barnabas.durability" in ours
    assert all(BROKER_KEYS[name].scope for name in ours)
    assert BROKER_KEYS["barnabas.open.files"].scope == READ_ONLY
