"""Values for messages, drawn from the definitions; and how Kafka's JSON converters show them."""

from __future__ import annotations

from base64 import b64encode

from hypothesis import strategies as st

from barnabas.wire.primitives import uuid_to_text
from tools.codegen.schema import Array, Field, Kind, Message, Struct

__all__ = ["as_json", "messages"]

_INTEGERS = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
}

_PRIMITIVES = {
    "bool": st.booleans(),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "uuid": st.binary(min_size=16, max_size=16),
    # A size of 127 and more needs a second byte in the compact encodings.
    "string": st.text(max_size=6) | st.sampled_from(["x" * 126, "x" * 127, "ü" * 200]),
    "bytes": st.binary(max_size=8) | st.sampled_from([bytes(126), bytes(127), bytes(20_000)]),
    "records": st.binary(max_size=8) | st.sampled_from([bytes(126), bytes(127), bytes(20_000)]),
} | {name: st.integers(low, high) for name, (low, high) in _INTEGERS.items()}

_LONG_ARRAY_SIZE = 130


def messages(cls: type, message: Message, version: int) -> st.SearchStrategy:
    """Messages of a class, with any value for what the version has and the default for what it has not."""
    return _structs(cls, message, message.root, version)


_strategies = {}


def _structs(cls: type, message: Message, struct: Struct, version: int) -> st.SearchStrategy:
    key = (cls, struct.name, version)
    if key not in _strategies:
        _strategies[key] = _make_structs(cls, message, struct, version)
    return _strategies[key]


def _make_structs(cls: type, message: Message, struct: Struct, version: int) -> st.SearchStrategy:
    made = cls if struct is message.root else getattr(cls, struct.name)
    fields = {f.attribute: _field(cls, message, f, version) for f in struct.fields if version in f.versions}
    return st.builds(made, **fields)


def _field(cls: type, message: Message, field: Field, version: int) -> st.SearchStrategy:
    kind = field.kind
    if isinstance(kind, Array):
        values = st.lists(_kind(cls, message, kind.element, version), max_size=3)
        if not kind.element.is_struct:
            long = _kind(cls, message, kind.element, version).map(lambda value: [value] * _LONG_ARRAY_SIZE)
            values = values | long
    else:
        values = _kind(cls, message, kind, version)
    if version in field.nullable or field.is_optional_struct:
        values = st.none() | values
    return values


def _kind(cls: type, message: Message, kind: Kind, version: int) -> st.SearchStrategy:
    if kind.is_struct:
        return _structs(cls, message, message.struct(kind.name), version)
    return _PRIMITIVES[kind.name]


def as_json(value, message: Message, struct: Struct, version: int) -> dict:
    """A message as Kafka's converter writes it: the fields of the version by their names in camel case."""
    shown = {}
    for field in struct.fields:
        if version not in field.versions:
            continue
        name = field.name[0].lower() + field.name[1:]
        content = getattr(value, field.attribute)
        if version in field.tagged and _is_default(field, content, message, version):
            continue
        if field.kind == Kind("records") and content is not None:
            shown[f"{name}SizeInBytes"] = len(content)
        elif content is None:
            shown[name] = None
        elif isinstance(field.kind, Array):
            shown[name] = [_shown(each, field.kind.element, message, version) for each in content]
        else:
            shown[name] = _shown(content, field.kind, message, version)
    return shown


def _shown(value, kind: Kind, message: Message, version: int):
    if kind.is_struct:
        return as_json(value, message, message.struct(kind.name), version)
    if kind.name == "uuid":
        return uuid_to_text(value)
    if kind.name == "bytes":
        return b64encode(value).decode()
    return value


def _is_default(field: Field, value, message: Message, version: int) -> bool:
    if field.default == {}:
        return (value is None and field.is_optional_struct) or (value is not None and value == type(value)())
    return value == field.default
