from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.clients


def test_a_topic_from_its_creation_to_its_deletion(barnabas, topic_name):
    """Create, list, describe and delete do what they say and say what they did."""
    created = barnabas.done(
        "topics",
        "create",
        topic_name,
        "--partitions",
        "3",
        "--config",
        "retention.ms=60000",
        "--config",
        "cleanup.policy=compact",
    )
    assert created == f"Created {topic_name}.\n"

    listed = barnabas.done("topics", "list").splitlines()
    assert listed[0].split() == ["TOPIC", "PARTITIONS", "REPLICAS"]
    assert [topic_name, "3", "1"] in [line.split() for line in listed]

    barnabas.done("produce", topic_name, "--partition", "1", "--key", "k", stdin="a\nb\n")
    described = barnabas.done("topics", "describe", topic_name)
    assert f"Topic {topic_name}" in described
    assert "  retention.ms=60000\n" in described
    rows = [line.split() for line in described.splitlines()]
    assert ["PARTITION", "LEADER", "REPLICAS", "IN", "SYNC", "START", "END"] in rows
    assert ["1", "1", "1", "1", "0", "2"] in rows
    assert ["2", "1", "1", "1", "0", "0"] in rows

    assert barnabas.done("topics", "delete", topic_name) == f"Deleted {topic_name}.\n"
    assert topic_name not in barnabas.done("topics", "list", "--json")


def test_json_is_for_programs(barnabas, topic):
    """--json gives the same facts with names."""
    listed = json.loads(barnabas.done("topics", "list", "--json"))
    assert {"name": topic, "partitions": 1, "replicas": 1} in listed
    (described,) = json.loads(barnabas.done("topics", "describe", "--json", topic))
    assert described["name"] == topic
    assert described["configs"] == {}
    assert not described["internal"]
    assert len(described["id"]) == 22
    assert described["partitions"] == [
        {"partition": 0, "leader": 1, "replicas": [1], "in_sync": [1], "start_offset": 0, "end_offset": 0}
    ]


def test_a_topic_that_is_there_already(barnabas, topic):
    """A second creation fails, unless nobody minds."""
    again = barnabas("topics", "create", topic)
    assert again.returncode == 1
    assert "TOPIC_ALREADY_EXISTS" in again.stderr
    assert barnabas.done("topics", "create", "--if-not-exists", topic) == f"{topic} is there already.\n"


def test_a_topic_that_is_not_there(barnabas, topic_name):
    """Describing and deleting what is not there fails, unless nobody minds."""
    for action in ("describe", "delete"):
        ended = barnabas("topics", action, topic_name)
        assert ended.returncode == 1
        assert f"{topic_name}: Unknown topic or partition (UNKNOWN_TOPIC_OR_PART" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert barnabas.done("topics", "delete", "--if-exists", topic_name) == f"{topic_name} is not there.\n"


def test_one_failure_does_not_stop_the_others(barnabas, topic, topic_name):
    """Each topic has its own outcome; the exit status says if any failed."""
    ended = barnabas("topics", "create", topic, f"{topic_name}-2", "bad name")
    assert ended.returncode == 1
    assert ended.stdout == f"Created {topic_name}-2.\n"
    assert ended.stderr.count("\n") == 2
    assert "INVALID" in ended.stderr.upper() or "TOPIC_EXCEPTION" in ended.stderr


def test_the_brokers_refusal_is_shown(barnabas, topic_name):
    """What the broker says against a setting reaches the user."""
    ended = barnabas("topics", "create", topic_name, "--config", "retention.ms=soon")
    assert ended.returncode == 1
    assert "Invalid value soon for configuration retention.ms" in ended.stderr


def test_a_malformed_setting(command):
    """A --config without = is refused before anybody is asked."""
    ended = command("topics", "create", "x", "--config", "retention.ms")
    assert ended.returncode == 1
    assert "write it as KEY=VALUE" in ended.stderr


def test_no_action_is_wrong_usage(command):
    """`barnabas topics` alone names the actions."""
    ended = command("topics")
    assert ended.returncode == 2
    assert "ACTION" in ended.stderr
