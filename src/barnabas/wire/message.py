"""What all generated messages have in common.

A message is one class for all versions of it: plain attributes, defaults from the schema. The bytes of a version
are read and written by flat functions that the generator wrote for that layout; the class only knows
which function belongs to which version.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from barnabas.errors import DecodeError, EncodeError
from barnabas.wire.chunks import Chunk, join_chunks, read_regions

if TYPE_CHECKING:
    from barnabas.wire.primitives import BytesLike

__all__ = ["NEW_LIST", "NEW_STRUCT", "Message", "RecordsMessage", "Structure"]

Decoder: TypeAlias = Callable[[Any, int], tuple[Any, int]]
Encoder: TypeAlias = Callable[..., None]

NEW_LIST: list[Any] = []
"""As a parameter's default: a new list. Never changed."""

NEW_STRUCT: Any = object()
"""As a parameter's default: a new struct with its own defaults."""

_LONGEST_REPR = 64

_NOT_DECODABLE = (IndexError, struct.error, UnicodeDecodeError, KeyError, DecodeError)
_NOT_ENCODABLE = (struct.error, AttributeError, TypeError, ValueError, KeyError, OverflowError)
"""What the generated functions run into: a KeyError is an unknown version, ValueError has EncodeError below it."""


class Structure:
    """A struct of the protocol: compared and printed by its fields."""

    __slots__: tuple[str, ...] = ()
    __hash__ = None  # type: ignore[assignment]  # Python's own way to say "mutable, so not hashable"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        fields = []
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bytes | bytearray | memoryview) and len(value) > _LONGEST_REPR:
                fields.append(f"{name}=<{len(value)} bytes>")
            else:
                fields.append(f"{name}={bytes(value) if isinstance(value, memoryview) else value!r}")
        return f"{type(self).__qualname__}({', '.join(fields)})"


class Message(Structure):
    """A message of the protocol, or a record schema of an internal topic."""

    __slots__ = ()

    API_KEY: ClassVar[int] = -1
    """The API of a request or response, the type of a metadata or coordinator record, else -1."""
    MIN_VERSION: ClassVar[int]
    MAX_VERSION: ClassVar[int]
    FLEXIBLE_FROM: ClassVar[int]
    """The first version with compact encodings and tagged fields; 32767 where there is none."""

    _decoders: ClassVar[Mapping[int, Decoder]]
    _encoders: ClassVar[Mapping[int, Encoder]]

    @classmethod
    def decode(cls, buffer: BytesLike, version: int, offset: int = 0) -> Self:
        """The message at `offset`; what follows it is not looked at.

        Raises:
            DecodeError: the version is unknown, or these bytes are no such message.
        """
        return cls.decode_at(buffer, version, offset)[0]

    @classmethod
    def decode_at(cls, buffer: BytesLike, version: int, offset: int) -> tuple[Self, int]:
        """The message at `offset`, and where it ends.

        Raises:
            DecodeError: the version is unknown, or these bytes are no such message.
        """
        try:
            message, stop = cls._decoders[version](buffer if type(buffer) is bytes else bytes(buffer), offset)
        except _NOT_DECODABLE as error:
            raise cls._decode_error(version, error) from None
        if stop > len(buffer):
            raise DecodeError(f"{cls.__name__} version {version} runs past the end")
        return message, stop

    def encode(self, version: int) -> bytes:
        """The bytes of the message in `version`.

        Raises:
            EncodeError: the version is unknown, or cannot express what the message says.
        """
        pieces: list[Any] = []
        try:
            self._encoders[version](self, pieces)
            return b"".join(pieces)
        except _NOT_ENCODABLE as error:
            raise self._encode_error(version, error) from error

    @classmethod
    def _decode_error(cls, version: int, error: Exception) -> DecodeError:
        if isinstance(error, KeyError) and version not in cls._decoders:
            return DecodeError(f"{cls.__name__} has no version {version}")
        if isinstance(error, IndexError | struct.error):
            return DecodeError(f"{cls.__name__} version {version} runs past the end")
        if isinstance(error, UnicodeDecodeError):
            return DecodeError(f"{cls.__name__} version {version}: a string is not UTF-8")
        return DecodeError(f"{cls.__name__} version {version}: {error}")

    @classmethod
    def _encode_error(cls, version: int, error: Exception) -> EncodeError:
        if isinstance(error, KeyError) and version not in cls._encoders:
            return EncodeError(f"{cls.__name__} has no version {version}")
        return EncodeError(f"{cls.__name__} version {version}: {error}")


class RecordsMessage(Message):
    """A message with a `records` field: decoding does not copy it, encoding keeps file regions apart."""

    __slots__ = ()

    @classmethod
    def decode(cls, buffer: BytesLike, version: int, offset: int = 0) -> Self:
        """The message at `offset`; what follows it is not looked at. Its records are views of `buffer`.

        Raises:
            DecodeError: the version is unknown, or these bytes are no such message.
        """
        view = buffer if type(buffer) is memoryview else memoryview(buffer)
        try:  # as decode_at does it: the broker's hottest path saves a call
            decoded: tuple[Self, int] = cls._decoders[version](view, offset)
        except _NOT_DECODABLE as error:
            raise cls._decode_error(version, error) from None
        if decoded[1] > len(view):
            raise DecodeError(f"{cls.__name__} version {version} runs past the end")
        return decoded[0]

    @classmethod
    def decode_at(cls, buffer: BytesLike, version: int, offset: int) -> tuple[Self, int]:
        """The message at `offset`, and where it ends; its records are views of `buffer`.

        Raises:
            DecodeError: the version is unknown, or these bytes are no such message.
        """
        try:
            message, stop = cls._decoders[version](memoryview(buffer), offset)
        except _NOT_DECODABLE as error:
            raise cls._decode_error(version, error) from None
        if stop > len(buffer):
            raise DecodeError(f"{cls.__name__} version {version} runs past the end")
        return message, stop

    def encode(self, version: int) -> bytes:
        """The bytes of the message in `version`; file regions are read.

        Raises:
            EncodeError: the version is unknown, or cannot express what the message says.
        """
        pieces, places = self._pieces(version)
        read_regions(pieces, places)
        return b"".join(pieces)

    def encode_chunks(self, version: int) -> list[Chunk]:
        """The message in `version` as chunks to send one after another; file regions stay as they are.

        Raises:
            EncodeError: the version is unknown, or cannot express what the message says.
        """
        return join_chunks(*self._pieces(version))

    def _pieces(self, version: int) -> tuple[list[Any], list[int]]:
        pieces: list[Any] = []
        places: list[int] = []
        try:
            self._encoders[version](self, pieces, places)
        except _NOT_ENCODABLE as error:
            raise self._encode_error(version, error) from error
        return pieces, places
