"""The model of a message definition: fields and structs, each with the versions in which it exists.

Version ranges ("3+", "0-12", "none") become sets of ints within the message's own versions, so that two
definitions of the same message, from two releases of Kafka, can be merged by version.

Source: the field keys that Kafka's `generator/` understands (`FieldSpec`, `StructSpec`, `MessageSpec`).
"""

from __future__ import annotations

import keyword
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["NEVER", "Array", "Field", "Kind", "Message", "Struct", "merge", "parse_message", "snake_case"]

NEVER = 32767
"""The `FLEXIBLE_FROM` of a message that has no flexible version."""

Versions = frozenset[int]

PRIMITIVES = frozenset(
    [
        "bool",
        "int8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "float64",
        "uuid",
        "string",
        "bytes",
        "records",
    ],
)

MESSAGE_ATTRIBUTES = frozenset(["decode", "decode_at", "encode", "encode_chunks"])


def snake_case(name: str) -> str:
    """The Python name of a field: `TopicId` is `topic_id`, `ISR` is `isr`; a keyword gets a trailing `_`."""
    out: list[str] = []
    after_capital = True
    for character in name:
        if character.isupper():
            if not after_capital:
                out.append("_")
            after_capital = True
        else:
            after_capital = False
        out.append(character.lower())
    snake = "".join(out)
    return snake + "_" if keyword.iskeyword(snake) or snake in MESSAGE_ATTRIBUTES else snake


@dataclass(frozen=True)
class Kind:
    """A type that is not an array: a primitive by Kafka's name, or a struct by its own."""

    name: str

    @property
    def is_struct(self) -> bool:
        """Whether this is a struct."""
        return self.name not in PRIMITIVES


@dataclass(frozen=True)
class Array:
    """An array of `element`. Arrays of arrays do not exist."""

    element: Kind


@dataclass(frozen=True)
class Field:
    """A field of a struct; all version sets are subsets of the message's versions."""

    name: str
    kind: Kind | Array
    versions: Versions
    nullable: Versions
    tagged: Versions
    tag: int
    default: Any
    ignorable: bool
    entity: str

    @property
    def attribute(self) -> str:
        """The field's name in Python."""
        return snake_case(self.name)

    @property
    def is_optional_struct(self) -> bool:
        """A tagged struct that cannot be null: `None` stands for its default value, which is not sent."""
        return isinstance(self.kind, Kind) and self.kind.is_struct and bool(self.tagged) and not self.nullable


@dataclass(frozen=True)
class Struct:
    """A struct: its fields in wire order (tagged ones excepted, which go by tag)."""

    name: str
    fields: tuple[Field, ...]

    def present(self, version: int) -> list[Field]:
        """The fields that are written one after another in `version`."""
        return [f for f in self.fields if version in f.versions and version not in f.tagged]

    def tagged(self, version: int) -> list[Field]:
        """The fields in the tag section of `version`, by tag."""
        return sorted((f for f in self.fields if version in f.tagged), key=lambda f: f.tag)

    def absent(self, version: int) -> list[Field]:
        """The fields that `version` does not know."""
        return [f for f in self.fields if version not in f.versions]


@dataclass(frozen=True)
class Message:
    """A message: its own fields, and all structs below them in the order in which they are first used."""

    name: str
    type: str
    api_key: int
    versions: Versions
    flexible: Versions
    listeners: tuple[str, ...]
    latest_version_unstable: bool
    root: Struct
    structs: tuple[Struct, ...]

    @property
    def min_version(self) -> int:
        """The first version."""
        return min(self.versions)

    @property
    def max_version(self) -> int:
        """The last version."""
        return max(self.versions)

    @property
    def flexible_from(self) -> int:
        """The first flexible version, or NEVER."""
        return min(self.flexible, default=NEVER)

    def struct(self, name: str) -> Struct:
        """The struct of that name."""
        return next(s for s in self.structs if s.name == name)

    @property
    def has_records(self) -> bool:
        """Whether record batches travel in it."""
        return any(f.kind == Kind("records") for s in (self.root, *self.structs) for f in s.fields)


def parse_versions(text: str | None, within: Versions) -> Versions:
    """The versions of `within` that a range names: `3`, `0-2`, `4+`, `none`; nothing for None."""
    if text is None or text == "none":
        return frozenset()
    if text.endswith("+"):
        low, high = int(text[:-1]), NEVER
    elif "-" in text:
        low, high = (int(part) for part in text.split("-"))
    else:
        low = high = int(text)
    return frozenset(v for v in within if low <= v <= high)


def _default(definition: dict[str, Any], kind: Kind | Array) -> Any:
    """The default as a Python value; `None` is null, `[]` an empty array, `{}` a default struct."""
    given = definition.get("default")
    text = "" if given is None else str(given)
    if isinstance(kind, Array):
        return None if text == "null" else []
    match kind.name:
        case "bool":
            return text.lower() == "true"
        case "string":
            return None if text == "null" else text
        case "bytes":
            return None if text == "null" else b""
        case "records":
            return None
        case "uuid":
            if text:
                raise ValueError(f"a uuid with a default: {definition}")
            return bytes(16)
        case "float64":
            return float(text or 0)
        case _ if kind.is_struct:
            return None if text == "null" else {}
        case _:
            return int(text or "0", 0)


def _parse_kind(text: str) -> Kind | Array:
    return Array(Kind(text[2:])) if text.startswith("[]") else Kind(text)


def _parse_field(definition: dict[str, Any], within: Versions) -> Field:
    kind = _parse_kind(definition["type"])
    tagged = parse_versions(definition.get("taggedVersions"), within)
    versions = parse_versions(definition.get("versions", definition.get("taggedVersions")), within)
    return Field(
        name=definition["name"],
        kind=kind,
        versions=versions,
        nullable=parse_versions(definition.get("nullableVersions"), within) & versions,
        tagged=tagged & versions,
        tag=int(definition.get("tag", -1)),
        default=_default(definition, kind),
        ignorable=definition.get("ignorable") in (True, "true"),
        entity=definition.get("entityType", ""),
    )


def parse_message(definition: dict[str, Any]) -> Message | None:
    """The model of a definition, or None for a message that no version is left of ("validVersions": "none")."""
    versions = parse_versions(definition["validVersions"], frozenset(range(256)))
    if not versions:
        return None
    structs: dict[str, Struct] = {}
    common = {struct["name"]: struct["fields"] for struct in definition.get("commonStructs", [])}

    def parse_fields(definitions: list[dict[str, Any]]) -> tuple[Field, ...]:
        fields = []
        for each in definitions:
            field = _parse_field(each, versions)
            fields.append(field)
            kind = field.kind.element if isinstance(field.kind, Array) else field.kind
            if kind.is_struct and kind.name not in structs:
                structs[kind.name] = Struct(kind.name, ())  # holds its place in the order
                structs[kind.name] = Struct(kind.name, parse_fields(each.get("fields") or common[kind.name]))
        return tuple(fields)

    root = Struct(definition["name"], parse_fields(definition["fields"]))
    return Message(
        name=definition["name"],
        type=definition["type"],
        api_key=int(definition.get("apiKey", -1)),
        versions=versions,
        flexible=parse_versions(definition["flexibleVersions"], versions),
        listeners=tuple(definition.get("listeners", ())),
        latest_version_unstable=bool(definition.get("latestVersionUnstable", False)),
        root=root,
        structs=tuple(structs.values()),
    )


def _merge_structs(new: Struct, old: Struct | None, low: Versions) -> Struct:
    """`new` for all versions that it knows, and `old` for the `low` ones that only the older release has."""
    if old is None:
        return new
    by_name = {f.name: f for f in old.fields}
    fields = []
    for field in new.fields:
        before = by_name.pop(field.name, None)
        if before is None:
            fields.append(field)
            continue
        if (before.kind, before.default) != (field.kind, field.default):
            raise ValueError(f"{new.name}.{field.name} changed its type or default between releases")
        fields.append(
            replace(
                field,
                versions=field.versions | (before.versions & low),
                nullable=field.nullable | (before.nullable & low),
                tagged=field.tagged | (before.tagged & low),
            ),
        )
    for position, field in enumerate(old.fields):
        if field.name in by_name and field.versions & low:
            kept = replace(
                field,
                versions=field.versions & low,
                nullable=field.nullable & low,
                tagged=field.tagged & low,
            )
            following = [f.name for f in old.fields[position + 1 :]]
            at = next((i for i, f in enumerate(fields) if f.name in following), len(fields))
            fields.insert(at, kept)
    merged = Struct(new.name, tuple(fields))
    for version in low:
        if [f.name for f in merged.present(version)] != [f.name for f in old.present(version)]:
            raise ValueError(f"{new.name} version {version}: the merged fields are not in the old order")
    return merged


def merge(new: Message, old: Message | None) -> Message:
    """One message for the versions of both: the newer release's definition where it has the version."""
    if old is None:
        return new
    low = frozenset(v for v in old.versions if v < new.min_version)
    if not low:
        return new
    old_structs = {s.name: s for s in old.structs}
    structs = [_merge_structs(s, old_structs.pop(s.name, None), low) for s in new.structs]
    root = _merge_structs(new.root, old.root, low)
    used = {
        (f.kind.element if isinstance(f.kind, Array) else f.kind).name
        for s in (root, *structs)
        for f in s.fields
    }
    structs += [_merge_structs(Struct(name, ()), s, low) for name, s in old_structs.items() if name in used]
    return replace(
        new,
        versions=new.versions | low,
        flexible=new.flexible | (old.flexible & low),
        root=root,
        structs=tuple(structs),
    )
