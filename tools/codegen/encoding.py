"""Flat encode functions: one per wire layout, nested structs inlined, a `struct` per run of fixed fields.

A function adds pieces to a list that is joined once. What can be written without a branch is one piece.
Pieces that hold records may be file regions; their places in the list
are noted.

A field that the version does not know must have its default, unless the definition calls it ignorable. Tagged fields are
written in the order of their tags, and only when they differ from their defaults.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tools.codegen.schema import Array, Field, Kind, Message, Struct, snake_case
from tools.codegen.source import FORMATS, ClassNames, Formats, Source

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["write_encoder"]


def write_encoder(
    source: Source, formats: Formats, message: Message, version: int, names: ClassNames, name: str
) -> None:
    """Write the function that encodes the layout of `version`."""
    _Encoder(source, formats, message, version, names).write(name)


class _Encoder:
    def __init__(
        self, source: Source, formats: Formats, message: Message, version: int, names: ClassNames
    ) -> None:
        self.class_names = names
        self.source = source
        self.formats = formats
        self.message = message
        self.version = version
        self.flexible = version in message.flexible
        self.run: list[tuple[str, str]] = []
        self.piece: list[str] = []
        self.names: set[str] = set()
        self.depth = 0

    # The run of fixed fields, and the piece that is being put together.

    def pack(self, letter: str, value: str = "") -> None:
        """Add a fixed field to the run; `x` is a zero byte."""
        self.run.append((letter, value))

    def end_run(self) -> None:
        if not self.run:
            return
        letters = [letter for letter, _ in self.run]
        values = [value for letter, value in self.run if letter != "x"]
        self.run = []
        if not values:
            self.piece.append(repr(bytes(len(letters))).replace("'", '"'))
        elif letters == ["16s"]:
            self.piece.append(values[0])
        else:
            self.piece.append(f"{self.formats.pack(letters)}({', '.join(values)})")

    def put(self, expression: str) -> None:
        """Add bytes to the piece."""
        self.end_run()
        self.piece.append(expression)

    def flush(self) -> None:
        self.end_run()
        if self.piece:
            self.source.add(f"append({' + '.join(self.piece)})")
        self.piece = []
        self.names = set()

    def local(self, name: str) -> str:
        """A variable that the current piece does not use yet."""
        if name in self.names:
            self.flush()
        self.names.add(name)
        return name

    # Structs.

    def write(self, name: str) -> None:
        parameters = f"message: {self.message.name}, pieces: list[Any]"
        if self.message.has_records:
            parameters += ", places: list[int]"
        with self.source.block(f"def {name}({parameters}) -> None:"):
            self.source.add("append = pieces.append")
            self.struct(self.message.root, "message")
            self.flush()

    def struct(self, struct: Struct, variable: str) -> None:
        for field in struct.absent(self.version):
            if not field.ignorable:
                with self.source.block(f"if {self.differs(field, f'{variable}.{field.attribute}')}:"):
                    self.source.add(f'raise EncodeError("it has no {field.attribute}")')
        for field in struct.fields:
            if self.version in field.versions and self.version not in field.tagged:
                value = f"{variable}.{field.attribute}"
                nullable = self.version in field.nullable
                if field.nullable and not nullable:
                    with self.source.block(f"if {value} is None:"):
                        self.source.add(f'raise EncodeError("{field.attribute} is null")')
                self.field(field, value, nullable=nullable)
        if self.flexible:
            self.tags(struct, variable)

    def differs(self, field: Field, value: str) -> str:
        """The condition under which a field has not its default."""
        default = field.default
        if default is None:
            return f"{value} is not None"
        if default == {}:
            assert isinstance(field.kind, Kind)
            same = f"{value} != {self.class_names[field.kind.name]}()"
            return f"{value} is not None and {same}" if field.is_optional_struct else same
        if default is False:
            return value
        if default is True:
            return f"not {value}"
        if default in ([], b"") and not isinstance(default, bool | int | float):
            return f"{value} is None or len({value})" if field.nullable else f"len({value})"
        if default == bytes(16):
            return f"{value} != ZERO_UUID"
        return f"{value} != {default!r}"

    def tags(self, struct: Struct, variable: str) -> None:
        known = struct.tagged(self.version)
        if not known:
            self.pack("x")
            return
        conditions = [self.differs(field, f"{variable}.{field.attribute}") for field in known]
        self.flush()
        self.depth += 1
        tags = f"tags_{self.depth}" if self.depth > 1 else "tags"
        self.source.add(f"{tags} = len(pieces)")
        self.source.add('append(b"\\x00")')
        for field, condition in zip(known, conditions, strict=True):
            with self.source.block(f"if {condition}:"):
                self.tagged(field, f"{variable}.{field.attribute}")
        with self.source.block(f"if len(pieces) - {tags} > 1:"):
            self.source.add(f"pieces[{tags}] = COMPACT_SIZES[len(pieces) - {tags} - 2]")
        self.depth -= 1

    def tagged(self, field: Field, value: str) -> None:
        """A tagged field that differs from its default: its pieces are made one, to know their size."""
        mark = f"mark_{self.depth}" if self.depth > 1 else "mark"
        self.source.add(f"{mark} = len(pieces)")
        nullable = self.version in field.nullable and field.default is not None
        if isinstance(field.kind, Kind) and field.kind.is_struct and nullable:
            with self.source.block(f"if {value} is None:"):
                self.source.add('append(b"\\x00")')
            with self.source.block("else:"):
                self.put('b"\\x01"')
                self.inline_struct(field.kind, value)
                self.flush()
        else:
            self.field(field, value, nullable=nullable, marked=False)
            self.flush()
        self.source.add(f"close_tag(pieces, {mark}, {field.tag})")

    # Fields.

    def field(self, field: Field, value: str, *, nullable: bool, marked: bool = True) -> None:
        """A field's value; `marked` says whether a nullable struct begins with the byte that says so."""
        if isinstance(field.kind, Array):
            self.array(field.kind.element, value, nullable=nullable)
        elif field.kind.name in FORMATS:
            if field.kind.name == "uuid":
                self.check_uuid(value)
            self.pack(FORMATS[field.kind.name], value)
        elif not field.kind.is_struct:
            self.or_null(
                value,
                partial(self.variable, field.kind.name, field.attribute, value),
                null=b"\x00"
                if self.flexible
                else b"\xff\xff"
                if field.kind.name == "string"
                else b"\xff" * 4,
                nullable=nullable,
            )
        elif nullable and marked:
            self.flush()
            with self.source.block(f"if {value} is None:"):
                self.source.add('append(b"\\xff")')
            with self.source.block("else:"):
                self.put('b"\\x01"')
                self.inline_struct(field.kind, value)
                self.flush()
        else:
            self.inline_struct(field.kind, value)

    def check_uuid(self, value: str) -> None:
        with self.source.block(f"if len({value}) != 16:"):
            self.source.add('raise EncodeError("a uuid has 16 bytes")')

    def or_null(self, value: str, write: Callable[[], None], *, null: bytes, nullable: bool) -> None:
        if not nullable:
            write()
            return
        self.flush()
        with self.source.block(f"if {value} is None:"):
            self.source.add(f"append({_literal(null)})")
        with self.source.block("else:"):
            write()
            self.flush()

    def inline_struct(self, kind: Kind, value: str) -> None:
        variable = snake_case(kind.name)
        if variable in self.names:
            self.flush()
        self.source.add(f"{variable} = {value}")
        self.names.add(variable)
        self.struct(self.message.struct(kind.name), variable)

    def variable(self, kind: str, label: str, value: str) -> None:
        if kind == "records":
            self.flush()
            self.source.add(f"records = {value}")
            if self.flexible:
                self.source.add("append(COMPACT_SIZES[records_size(records)])")
            else:
                self.source.add(f"append({self.formats.pack(['i'])}(records_size(records)))")
            with self.source.block("if type(records) is list:"):
                self.source.add("add_records(pieces, places, records)")
            with self.source.block("else:"):
                self.source.add("places.append(len(pieces))")
                self.source.add("append(records)")
            return
        data = value
        if kind == "string":
            data = self.local(f"{label.rsplit(maxsplit=1)[-1].rstrip('_')}_text")
            self.source.add(f"{data} = {value}.encode()")
        if self.flexible:
            self.put(f"{'STRING_SIZES' if kind == 'string' else 'COMPACT_SIZES'}[len({data})]")
        else:
            self.pack("h" if kind == "string" else "i", f"len({data})")
        if kind == "string":
            self.put(data)
        else:
            self.flush()
            self.source.add(f"append({data})")

    def array(self, element: Kind, value: str, *, nullable: bool) -> None:
        self.or_null(
            value,
            partial(self.elements, element, value),
            null=b"\x00" if self.flexible else b"\xff" * 4,
            nullable=nullable,
        )

    def elements(self, element: Kind, value: str) -> None:
        fixed = FORMATS.get(element.name)
        if self.flexible:
            self.put(f"COMPACT_SIZES[len({value})]")
        else:
            self.pack("i", f"len({value})")
        if fixed and element.name != "uuid":
            self.put(f'pack(f">{{len({value})}}{fixed}", *{value})')
            return
        self.flush()
        if element.name == "uuid":
            with self.source.block(f"for uuid in {value}:"):
                self.check_uuid("uuid")
                self.source.add("append(uuid)")
        elif element.is_struct:
            variable = snake_case(element.name)
            with self.source.block(f"for {variable} in {value}:"):
                self.struct(self.message.struct(element.name), variable)
                self.flush()
        else:
            variable = {"string": "text", "bytes": "blob"}[element.name]
            with self.source.block(f"for {variable} in {value}:"):
                self.variable(element.name, f"element of {variable}", variable)
                self.flush()


def _literal(data: bytes) -> str:
    return repr(data).replace("'", '"')
