from __future__ import annotations

import pytest

from tools.codegen.schema import NEVER, Array, Kind, merge, parse_message, snake_case


def _message(valid, fields, *, flexible="none", **more):
    return parse_message(
        {
            "name": "XRequest",
            "type": "request",
            "apiKey": 1,
            "validVersions": valid,
            "flexibleVersions": flexible,
            "fields": fields,
            **more,
        }
    )


def _field(name, versions="0+", kind="int32", **more):
    return {"name": name, "versions": versions, "type": kind, **more}


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("TopicId", "topic_id"), ("topicId", "topic_id"), ("ISR", "isr"), ("IsKRaft", "is_kraft"),
        ("From", "from_"), ("Encode", "encode_"), ("lastKnownElr", "last_known_elr"),
    ],
)  # fmt: skip
def test_names_become_pythons(name, snake):
    """Capitals in a row are one word; what Python or the message class needs gets an underscore."""
    assert snake_case(name) == snake


def test_versions_are_cut_to_the_messages_own():
    """Ranges of a field are taken within the versions of the message."""
    message = _message(
        "2-4", [_field("A", "0+"), _field("B", "3"), _field("C", "0-2"), _field("D", "none")], flexible="4+"
    )
    assert [sorted(f.versions) for f in message.root.fields] == [[2, 3, 4], [3], [2], []]
    assert (message.min_version, message.max_version, message.flexible_from) == (2, 4, 4)
    assert _message("0", []).flexible_from == NEVER


def test_a_message_without_versions_is_none():
    """An API that Kafka has removed leaves nothing."""
    assert parse_message({"name": "X", "type": "request", "validVersions": "none"}) is None


@pytest.mark.parametrize(
    ("definition", "default"),
    [
        ({"kind": "int32"}, 0),
        ({"kind": "int32", "default": "-1"}, -1),
        ({"kind": "int32", "default": "0x7fffffff"}, 2**31 - 1),
        ({"kind": "int8", "default": 16}, 16),
        ({"kind": "bool", "default": "true"}, True),
        ({"kind": "bool", "default": False}, False),
        ({"kind": "string"}, ""),
        ({"kind": "string", "default": "null"}, None),
        ({"kind": "bytes"}, b""),
        ({"kind": "records"}, None),
        ({"kind": "uuid"}, bytes(16)),
        ({"kind": "float64"}, 0.0),
        ({"kind": "[]int32"}, []),
        ({"kind": "[]int32", "default": "null"}, None),
        ({"kind": "[]int32", "default": None}, []),
        ({"kind": "S", "fields": []}, {}),
        ({"kind": "S", "fields": [], "default": "null"}, None),
        ({"kind": "S", "fields": [], "default": None}, {}),
    ],
)
def test_defaults_are_kafkas(definition, default):
    """A default of JSON's null is none at all; the text "null" is null."""
    definition = {"commonStructs": [{"name": "S", "fields": []}], "field": definition}
    message = _message("0", [_field("A", **definition["field"])], commonStructs=definition["commonStructs"])
    assert message.root.fields[0].default == default
    assert type(message.root.fields[0].default) is type(default)


def test_structs_are_found_wherever_they_are_defined():
    """A struct is defined where it is used or among the common ones, and is one struct for all who use it."""
    message = _message(
        "0",
        [_field("A", kind="[]Inline", fields=[_field("B", kind="Common")]), _field("C", kind="[]Common")],
        commonStructs=[{"name": "Common", "versions": "0+", "fields": [_field("D")]}],
    )
    assert [s.name for s in message.structs] == ["Inline", "Common"]
    assert message.root.fields[1].kind == Array(Kind("Common"))


def test_merging_adds_the_lower_versions_of_the_older_release():
    """The newer definition holds where it has the version, the older one below, each with its own fields."""
    new = _message("3-4", [_field("B", "3+"), _field("C", "4+")])
    old = _message("0-3", [_field("A", "0-1"), _field("B", "0+"), _field("Gone", "3")])
    merged = merge(new, old)
    assert sorted(merged.versions) == [0, 1, 2, 3, 4]
    assert {f.name: sorted(f.versions) for f in merged.root.fields} == {
        "A": [0, 1],
        "B": [0, 1, 2, 3, 4],
        "C": [4],
    }
    assert [f.name for f in merged.root.fields] == ["A", "B", "C"]


def test_merging_keeps_what_is_not_lower():
    """An older release that has no lower version adds nothing."""
    new = _message("1-4", [_field("A")])
    assert merge(new, None) is new
    assert merge(new, _message("1-3", [_field("A")])) is new


def test_merging_refuses_what_does_not_fit():
    """A field that changed its type, or another order of fields, needs a decision."""
    with pytest.raises(ValueError, match="changed its type"):
        merge(_message("1", [_field("A")]), _message("0", [_field("A", kind="int64")]))
    with pytest.raises(ValueError, match="not in the old order"):
        merge(_message("1", [_field("A"), _field("B")]), _message("0", [_field("B"), _field("A")]))
