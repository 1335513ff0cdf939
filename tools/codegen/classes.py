"""The class of a message: its attributes, their defaults, and a docstring that states the facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.codegen.schema import NEVER, Array, Field, Kind, Message, Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.codegen.source import Source

__all__ = ["describe_versions", "write_class"]

_TYPES = {
    "bool": "bool",
    "float64": "float",
    "uuid": "bytes",
    "string": "str",
    "bytes": "bytes",
    "records": "Records",
}

_TITLES = {
    "request": "request",
    "response": "response",
    "data": "data",
    "metadata": "metadata record",
    "coordinator-key": "key of a coordinator record",
    "coordinator-value": "value of a coordinator record",
}


def write_class(source: Source, message: Message) -> None:
    """Write the class of a message, with the classes of its structs inside."""
    base = "RecordsMessage" if message.has_records else "Message"
    with source.block(f"class {message.name}({base}):"):
        _docstring(source, _title(message), message.root, message)
        _slots(source, message.root)
        source.add()
        source.add(f"API_KEY = {message.api_key}")
        source.add(f"MIN_VERSION = {message.min_version}")
        source.add(f"MAX_VERSION = {message.max_version}")
        source.add(f"FLEXIBLE_FROM = {message.flexible_from}")
        for struct in message.structs:
            source.add()
            with source.block(f"class {struct.name}(Structure):"):
                _docstring(source, f"`{struct.name}` of `{message.name}`.", struct, message)
                _slots(source, struct)
                _init(source, struct, message)
        _init(source, message.root, message)


def describe_versions(versions: Iterable[int], message: Message) -> str:
    """A set of versions as a range: `3+`, `0-2`, `1, 3-4`."""
    numbers = sorted(versions)
    parts: list[str] = []
    for start in [v for v in numbers if v - 1 not in numbers]:
        stop = next(v for v in range(start, NEVER) if v + 1 not in numbers)
        if stop == message.max_version:
            parts.append(f"{start}+")
        else:
            parts.append(str(start) if start == stop else f"{start}-{stop}")
    return ", ".join(parts)


def _title(message: Message) -> str:
    subject = message.name
    for suffix in ("Request", "Response"):
        subject = subject.removesuffix(suffix)
    title = _TITLES[message.type]
    title = f"{subject} {title}" if message.type in ("request", "response") else f"{subject}: {title}"
    facts = []
    if message.api_key >= 0:
        noun = {"request": "API key", "response": "API key"}.get(message.type, "record type")
        facts.append(f"{noun} {message.api_key}")
    low, high = message.min_version, message.max_version
    facts.append(f"version {low}" if low == high else f"versions {low}-{high}")
    if message.flexible:
        facts.append(f"flexible from {message.flexible_from}")
    if message.latest_version_unstable:
        facts.append("the latest one unstable")
    return f"{title}, {', '.join(facts)}."


def _docstring(source: Source, title: str, struct: Struct, message: Message) -> None:
    if not struct.fields:
        source.add(f'"""{title}"""')
        source.add()
        return
    source.add(f'"""{title}')
    source.add()
    for field in struct.fields:
        source.add(_fact(field, message))
    source.add('"""')
    source.add()


def _fact(field: Field, message: Message) -> str:
    kind = field.kind
    text = f"array of {kind.element.name}" if isinstance(kind, Array) else kind.name
    if field.entity:
        text += f" ({field.entity})"
    if field.versions != message.versions:
        text += f", versions {describe_versions(field.versions, message)}"
    if field.nullable:
        always = field.nullable == field.versions
        text += ", nullable" if always else f", nullable in {describe_versions(field.nullable, message)}"
    if field.tagged:
        always = field.tagged == field.versions
        text += f", tag {field.tag}"
        text += "" if always else f" in {describe_versions(field.tagged, message)}"
    if field.ignorable and field.versions != message.versions:
        text += ", ignorable"
    return f"    {field.attribute}: {text}"


def _slots(source: Source, struct: Struct) -> None:
    names = [f'"{field.attribute}"' for field in struct.fields]
    source.add(f"__slots__ = ({', '.join(names)}{',' if len(names) == 1 else ''})")


def _annotation(field: Field, message: Message) -> str:
    def plain(kind: Kind) -> str:
        return f"{message.name}.{kind.name}" if kind.is_struct else _TYPES.get(kind.name, "int")

    if field.kind == Kind("records"):
        return "Records"
    text = f"list[{plain(field.kind.element)}]" if isinstance(field.kind, Array) else plain(field.kind)
    return f"{text} | None" if field.nullable or field.is_optional_struct else text


def _default(field: Field) -> str:
    if field.default == {}:
        return "None" if field.is_optional_struct else "NEW_STRUCT"
    if field.default == [] and isinstance(field.kind, Array):
        return "NEW_LIST"
    return "ZERO_UUID" if field.default == bytes(16) else repr(field.default)


def _init(source: Source, struct: Struct, message: Message) -> None:
    if not struct.fields:
        return
    source.add()
    with source.block("def __init__("):
        source.add("self,")
        source.add("*,")
        for field in struct.fields:
            source.add(f"{field.attribute}: {_annotation(field, message)} = {_default(field)},")
    with source.block(") -> None:"):
        for field in struct.fields:
            name = field.attribute
            match _default(field):
                case "NEW_LIST":
                    value = f"[] if {name} is NEW_LIST else {name}"
                case "NEW_STRUCT":
                    assert isinstance(field.kind, Kind)
                    value = f"{message.name}.{field.kind.name}() if {name} is NEW_STRUCT else {name}"
                case _:
                    value = name
            source.add(f"self.{name} = {value}")
