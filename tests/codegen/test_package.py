from __future__ import annotations

import pytest

from barnabas.errors import DecodeError, EncodeError
from tools.codegen.classes import describe_versions
from tools.codegen.package import api_table, message_modules
from tools.codegen.schema import parse_message


def _field(name, kind, versions="0+", **more):
    return {"name": name, "versions": versions, "type": kind, **more}


def _message(name, fields, *, versions="0-1", flexible="1+", **more):
    kind = "response" if name.endswith("Response") else "request"
    return parse_message(
        {
            "name": name,
            "type": kind,
            "apiKey": 7,
            "validVersions": versions,
            "flexibleVersions": flexible,
            "fields": fields,
            **more,
        }
    )


def _load(*messages):
    (file,) = [file for file in message_modules({"": list(messages)}) if "__init__" not in file.path]
    module = {}
    exec(compile(file.text, file.path, "exec", dont_inherit=True), module)
    return module


def test_request_and_response_share_a_module_whatever_their_structs_are_called():
    """Structs of one name in both messages are two classes."""
    request = _message("PingRequest", [_field("Items", "[]Item", fields=[_field("A", "int32")])])
    response = _message("PingResponse", [_field("Items", "[]Item", fields=[_field("B", "string")])])
    module = _load(request, response)
    assert module["__all__"] == ["PingRequest", "PingResponse"]
    for version in (0, 1):
        ping = module["PingRequest"](items=[module["PingRequest"].Item(a=5)])
        assert module["PingRequest"].decode(ping.encode(version), version) == ping
        pong = module["PingResponse"](items=[module["PingResponse"].Item(b="x")])
        assert module["PingResponse"].decode(pong.encode(version), version) == pong


def test_versions_of_one_layout_share_a_function():
    """Only a version that differs on the wire has code of its own."""
    module = _load(_message("PingRequest", [_field("A", "int32", "2+")], versions="0-4", flexible="none"))
    decoders = module["PingRequest"]._decoders
    assert len(decoders) == 5
    assert decoders[0] is decoders[1]
    assert decoders[2] is decoders[3] is decoders[4] is not decoders[1]


def test_tags_follow_their_numbers_and_nest():
    """Tagged fields go by tag, whatever their order, also within tagged structs; each is left out at its default."""
    inner = [_field("X", "int8", tag=0, taggedVersions="1+", ignorable=True), _field("Y", "string")]
    fields = [
        _field("Late", "[]string", tag=1, taggedVersions="1+", nullableVersions="1+", versions="1+"),
        _field("Early", "Inner", tag=0, taggedVersions="1+", versions="1+", fields=inner),
    ]
    ping = _load(_message("PingRequest", fields))["PingRequest"]
    assert ping().encode(1) == b"\x00"
    message = ping(late=None, early=ping.Inner(x=3, y="z"))
    assert message.encode(1) == b"\x02\x00\x06\x02z\x01\x00\x01\x03\x01\x01\x00"
    assert ping.decode(message.encode(1), 1) == message


def test_elements_without_bytes_are_bounded():
    """An array of structs that have no field in a version can claim no more elements than bytes are left."""
    fields = [_field("Items", "[]Item", fields=[_field("A", "int32", "1+")]), _field("After", "int32")]
    ping = _load(_message("PingRequest", fields, flexible="none"))["PingRequest"]
    assert len(ping.decode(b"\x00\x00\x00\x04" + bytes(4), 0).items) == 4
    with pytest.raises(DecodeError, match="more elements"):
        ping.decode(b"\x7f\xff\xff\xff" + bytes(4), 0)


def test_null_is_only_written_where_it_can_be_read():
    """A field that is nullable in some versions is refused as null in the others."""
    fields = [_field("S", "string", nullableVersions="1+"), _field("A", "[]int8", nullableVersions="1+")]
    ping = _load(_message("PingRequest", fields))["PingRequest"]
    assert ping.decode(ping(s=None, a=None).encode(1), 1) == ping(s=None, a=None)
    for message in (ping(s=None), ping(a=None)):
        with pytest.raises(EncodeError, match="is null"):
            message.encode(0)


def test_versions_are_described_as_ranges():
    """Versions in docstrings read as in Kafka's definitions."""
    message = _message("PingRequest", [], versions="0-9", flexible="none")
    assert describe_versions([3, 4, 5, 6, 7, 8, 9], message) == "3+"
    assert describe_versions([0, 1, 4, 6, 7], message) == "0-1, 4, 6-7"


def test_the_table_of_apis_lists_requests_only():
    """Each API is one line, whatever it answers."""
    request = _message("PingRequest", [], listeners=["broker"], latestVersionUnstable=True)
    text = api_table([request, _message("PingResponse", [])]).text
    assert '7: Api(7, "Ping", 0, 1, 1, ("broker",), latest_version_unstable=True),' in text
    assert "Response" not in text
