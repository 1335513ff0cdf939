from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.request_header.v1.header import RequestHeader as KioHeader1
from kio.schema.request_header.v2.header import RequestHeader as KioHeader2
from kio.serial import entity_writer

from barnabas.errors import DecodeError
from barnabas.wire.apis import APIS
from barnabas.wire.headers import (
    RequestHeader,
    decode_request_header,
    decode_response_header,
    encode_request_header,
    encode_response_header,
)

_API_VERSIONS = 18
_CONTROLLED_SHUTDOWN = 7

_REQUESTS = st.sampled_from(sorted(APIS.values(), key=lambda api: api.key)).flatmap(
    lambda api: st.tuples(st.just(api), st.integers(api.min_version, api.max_version))
)


def _fields(header):
    return header.api_key, header.api_version, header.correlation_id, header.client_id


@given(_REQUESTS, st.integers(-(2**31), 2**31 - 1), st.none() | st.text(max_size=20))
def test_request_headers_are_kios(request, correlation_id, client_id):
    """The header of any API and version has the bytes that kio writes, and is read back; the body follows."""
    api, version = request
    kio = KioHeader2 if version >= api.flexible_from else KioHeader1
    stream = io.BytesIO()
    entity_writer(kio)(
        stream,
        kio(
            request_api_key=api.key,
            request_api_version=version,
            correlation_id=correlation_id,
            client_id=client_id,
        ),
    )
    data = stream.getvalue()
    assert encode_request_header(RequestHeader(api.key, version, correlation_id, client_id)) == data
    header, body = decode_request_header(memoryview(b"...." + data + b"body"), 4)
    assert _fields(header) == (api.key, version, correlation_id, client_id)
    assert body == 4 + len(data)


@given(_REQUESTS, st.integers(-(2**31), 2**31 - 1))
def test_response_headers_follow_the_request(request, correlation_id):
    """Flexible versions have a tag section in the answer's header too; ApiVersions never has."""
    api, version = request
    tags = b"\x00" if version >= api.flexible_from and api.key != _API_VERSIONS else b""
    data = encode_response_header(api.key, version, correlation_id)
    assert data == correlation_id.to_bytes(4, "big", signed=True) + tags
    assert decode_response_header(data, api.key, version) == (correlation_id, len(data))


def test_the_oldest_request_has_no_client_id():
    """Version 0 of ControlledShutdown ends its header with the correlation id."""
    data = encode_request_header(RequestHeader(_CONTROLLED_SHUTDOWN, 0, 9))
    assert data == bytes.fromhex("0007 0000 00000009")
    for rest in (b"", b"\x00\x00\x00\x01"):
        header, body = decode_request_header(data + rest)
        assert (_fields(header), body) == ((_CONTROLLED_SHUTDOWN, 0, 9, None), 8)


def test_unknown_requests_still_have_a_header():
    """Of an API or version that nobody knows, the client id can still be told, to refuse it by name."""
    data = bytes.fromhex("03e8 0001 00000009 0002") + b"me"
    assert _fields(decode_request_header(data)[0]) == (1000, 1, 9, "me")
    data = bytes.fromhex("0012 03e8 00000009 0002") + b"me\x00"
    assert _fields(decode_request_header(data)[0]) == (_API_VERSIONS, 1000, 9, "me")


def test_tags_in_headers_are_dropped():
    """A tagged field in a header is skipped."""
    data = bytes.fromhex("0012 0003 00000009 ffff") + b"\x01\x05\x03abc"
    header, body = decode_request_header(data + b"body")
    assert (_fields(header), body) == ((_API_VERSIONS, 3, 9, None), len(data))


def test_truncated_headers_are_refused():
    """A header that is cut off anywhere, has a bad client id or a bad tag section raises DecodeError."""
    data = encode_request_header(RequestHeader(_API_VERSIONS, 3, 9, "client"))
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode_request_header(data[:length])
    with pytest.raises(DecodeError):
        decode_request_header(bytes.fromhex("0012 0003 00000009 0001 ff 00"))
    with pytest.raises(DecodeError):
        decode_request_header(bytes.fromhex("0012 0003 00000009 ffff 05 00"))
    for length in range(5):
        with pytest.raises(DecodeError):
            decode_response_header(bytes(5)[:length], 1, 12)


@given(st.binary(max_size=40))
def test_random_headers_are_read_or_refused(data):
    """Random bytes are a header or DecodeError."""
    try:
        decode_request_header(data)
    except DecodeError:
        return
