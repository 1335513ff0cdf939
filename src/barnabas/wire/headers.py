"""The headers of requests and responses.

    request header 0    api key int16, api version int16, correlation id int32
    request header 1    the same, then client id: nullable string (two-byte size)
    request header 2    the same (the client id keeps its two-byte size), then a tag section
    response header 0   correlation id int32
    response header 1   correlation id int32, then a tag section

Header 0 belongs to version 0 of ControlledShutdown alone. Requests of a flexible version have header 2, their
responses header 1; but the response of ApiVersions always has header 0, since a client that asks for a version
which the broker does not know must still be able to read the answer (KIP-511).
"""

from __future__ import annotations

from struct import Struct, error
from typing import Final

from barnabas.errors import DecodeError
from barnabas.wire.apis import APIS
from barnabas.wire.primitives import BytesLike, skip_tags

__all__ = [
    "RequestHeader",
    "decode_request_header",
    "decode_response_header",
    "encode_request_header",
    "encode_response_header",
]

_API_VERSIONS: Final = 18
_CONTROLLED_SHUTDOWN: Final = 7

_unpack_header = Struct(">hhih").unpack_from
_unpack_short_header = Struct(">hhi").unpack_from
_pack_header = Struct(">hhih").pack
_unpack_i = Struct(">i").unpack_from
_pack_i = Struct(">i").pack
_pack_ix = Struct(">ix").pack

_FLEXIBLE_FROM = {key: api.flexible_from for key, api in APIS.items()}
_NEVER = 32767


class RequestHeader:
    """What stands before every request; `client_id` is None when the client gives none."""

    __slots__ = ("api_key", "api_version", "client_id", "correlation_id")

    def __init__(
        self, api_key: int, api_version: int, correlation_id: int, client_id: str | None = None
    ) -> None:
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.client_id = client_id

    def __repr__(self) -> str:
        return (
            f"RequestHeader(api_key={self.api_key}, api_version={self.api_version}, "
            f"correlation_id={self.correlation_id}, client_id={self.client_id!r})"
        )


def decode_request_header(buffer: BytesLike, offset: int = 0) -> tuple[RequestHeader, int]:
    """The header at `offset`, and where the body begins.

    Any API key and version is let through: for an unknown API, or a version above all that we know, the header is taken
    for one with a client id and without tags, so that the caller can still see whom to refuse.

    Raises:
        DecodeError: these bytes are no header.
    """
    try:
        try:
            api_key, api_version, correlation_id, size = _unpack_header(buffer, offset)
        except error:
            api_key, api_version, correlation_id = _unpack_short_header(buffer, offset)
            if (api_key, api_version) == (_CONTROLLED_SHUTDOWN, 0):
                return RequestHeader(api_key, api_version, correlation_id), offset + 8
            raise
        if api_key == _CONTROLLED_SHUTDOWN and api_version == 0:
            return RequestHeader(api_key, api_version, correlation_id), offset + 8
        offset += 10
        if size < 0:
            client_id = None
        else:
            stop = offset + size
            client_id = str(buffer[offset:stop], "utf-8")
            offset = stop
        if api_version >= _FLEXIBLE_FROM.get(api_key, _NEVER):
            tags = buffer[offset]
            offset += 1
            if tags:
                offset = skip_tags(buffer, offset, tags)
    except (error, IndexError, UnicodeDecodeError, DecodeError) as cause:
        raise DecodeError(f"a request header does not parse: {cause}") from None
    if offset > len(buffer):
        raise DecodeError("a request header runs past the end")
    return RequestHeader(api_key, api_version, correlation_id, client_id), offset


def encode_request_header(header: RequestHeader) -> bytes:
    """The bytes of a header, as the API and version in it demand."""
    if header.api_key == _CONTROLLED_SHUTDOWN and header.api_version == 0:
        return _pack_header(header.api_key, header.api_version, header.correlation_id, 0)[:8]
    client_id = b"" if header.client_id is None else header.client_id.encode()
    size = -1 if header.client_id is None else len(client_id)
    fixed = _pack_header(header.api_key, header.api_version, header.correlation_id, size)
    if header.api_version >= _FLEXIBLE_FROM.get(header.api_key, _NEVER):
        return fixed + client_id + b"\x00"
    return fixed + client_id


def encode_response_header(api_key: int, version: int, correlation_id: int) -> bytes:
    """The header of the answer to a request of that API and version."""
    if version >= _FLEXIBLE_FROM.get(api_key, _NEVER) and api_key != _API_VERSIONS:
        return _pack_ix(correlation_id)
    return _pack_i(correlation_id)


def decode_response_header(buffer: BytesLike, api_key: int, version: int, offset: int = 0) -> tuple[int, int]:
    """The correlation id in the header at `offset`, and where the body begins.

    Raises:
        DecodeError: these bytes are no header.
    """
    try:
        (correlation_id,) = _unpack_i(buffer, offset)
        offset += 4
        if version >= _FLEXIBLE_FROM.get(api_key, _NEVER) and api_key != _API_VERSIONS:
            tags = buffer[offset]
            offset += 1
            if tags:
                offset = skip_tags(buffer, offset, tags)
    except (error, IndexError) as cause:
        raise DecodeError(f"a response header does not parse: {cause}") from None
    if offset > len(buffer):
        raise DecodeError("a response header runs past the end")
    return correlation_id, offset
