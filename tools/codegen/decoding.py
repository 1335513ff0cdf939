"""Flat decode functions: one per wire layout, nested structs inlined, a `struct` per run of fixed fields.

Bounds are not checked at each step. A slice beyond the end is short, a later read there fails with IndexError
or struct.error, and `Message.decode_at` looks once at the end whether the offset has left the buffer. What must be
checked on the spot is a count before anything is made from it: no array can have more elements than the rest of the
buffer has room for.
"""

from __future__ import annotations

from struct import calcsize

from tools.codegen.schema import Array, Field, Kind, Message, Struct, snake_case
from tools.codegen.source import FORMATS, ClassNames, Formats, Source

__all__ = ["write_decoder"]


def write_decoder(
    source: Source, formats: Formats, message: Message, version: int, names: ClassNames, name: str
) -> None:
    """Write the function that decodes the layout of `version`."""
    _Decoder(source, formats, message, version, names).write(name)


class _Decoder:
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
        self.depth = 0

    # The run of fixed fields that is being collected.

    def read(self, letter: str, target: str) -> None:
        self.run.append((letter, target))

    def flush(self) -> None:
        if not self.run:
            return
        letters = [letter for letter, _ in self.run]
        targets = [target for _, target in self.run]
        self.run = []
        if letters == ["B"]:
            self.source.add(f"{targets[0]} = buffer[offset]")
        elif len(letters) == 1:
            self.source.add(f"({targets[0]},) = {self.formats.unpack(letters)}(buffer, offset)")
        else:
            self.source.add(f"{', '.join(targets)} = {self.formats.unpack(letters)}(buffer, offset)")
        self.source.add(f"offset += {calcsize('>' + ''.join(letters))}")

    def new(self, variable: str, class_name: str) -> None:
        """Make an object; an older one of the same name must have been filled by then."""
        if any(target.startswith(variable + ".") for _, target in self.run):
            self.flush()
        self.source.add(f"{variable} = _new({class_name})")

    # Structs.

    def write(self, name: str) -> None:
        root = self.message.name
        with self.source.block(f"def {name}(buffer: {self._buffer()}, offset: int) -> tuple[{root}, int]:"):
            body = Source()
            self.source, outer = body, self.source
            self.new("message", root)
            self.struct(self.message.root, "message")
            self.flush()
            self.source = outer
            if any("end - offset" in line for line in body.lines):
                self.source.add("end = len(buffer)")
            for line in body.lines:
                self.source.add(line)
            self.source.add("return message, offset")

    def _buffer(self) -> str:
        return "memoryview" if self.message.has_records else "bytes"

    def struct(self, struct: Struct, variable: str) -> None:
        for field in struct.absent(self.version):
            self.source.add(f"{variable}.{field.attribute} = {self.default(field)}")
        for field in struct.fields:
            if self.version in field.versions and self.version not in field.tagged:
                self.field(field, f"{variable}.{field.attribute}")
        if self.flexible:
            self.tags(struct, variable)

    def default(self, field: Field) -> str:
        if field.default == {}:
            assert isinstance(field.kind, Kind)
            return "None" if field.is_optional_struct else f"{self.class_names[field.kind.name]}()"
        if field.default == bytes(16):
            return "ZERO_UUID"
        return repr(field.default)

    def tags(self, struct: Struct, variable: str) -> None:
        known = struct.tagged(self.version)
        for field in known:
            self.source.add(f"{variable}.{field.attribute} = {self.default(field)}")
        self.read("B", "tags")
        self.flush()
        with self.source.block("if tags:"):
            if not known:
                self.source.add("offset = skip_tags(buffer, offset, tags)")
                return
            with self.source.block("if tags > 127:"):
                self.source.add("tags, offset = unsigned_varint_tail(buffer, offset, tags)")
            self.depth += 1
            tag_end = f"tag_end_{self.depth}" if self.depth > 1 else "tag_end"
            with self.source.block("for _ in range(tags):"):
                self.source.add(f"tag, offset, {tag_end} = tag_header(buffer, offset)")
                for position, field in enumerate(known):
                    with self.source.block(f"{'elif' if position else 'if'} tag == {field.tag}:"):
                        self.tagged(field, f"{variable}.{field.attribute}")
                        self.flush()
                with self.source.block("else:"):
                    self.source.add(f"offset = {tag_end}")
                with self.source.block(f"if offset != {tag_end}:"):
                    self.source.add('raise DecodeError("a tagged field has another size than it says")')
            self.depth -= 1

    def tagged(self, field: Field, target: str) -> None:
        nullable = self.version in field.nullable
        if nullable and isinstance(field.kind, Kind) and field.kind.is_struct:
            self.read("B", "size")
            self.flush()
            with self.source.block("if size > 127:"):
                self.source.add("size, offset = unsigned_varint_tail(buffer, offset, size)")
            with self.source.block("if size == 0:"):
                self.source.add(f"{target} = None")
            with self.source.block("else:"):
                self.inline_struct(field.kind, target)
                self.flush()
        else:
            self.field(field, target, present=True)

    # Fields.

    def field(self, field: Field, target: str, *, present: bool = False) -> None:
        nullable = self.version in field.nullable
        if isinstance(field.kind, Array):
            self.array(field, target, nullable=nullable)
        elif field.kind.name in FORMATS:
            self.read(FORMATS[field.kind.name], target)
        elif not field.kind.is_struct:
            self.variable(field.kind.name, field.attribute, target, nullable=nullable)
        elif nullable and not present:
            self.read("b", "present")
            self.flush()
            with self.source.block("if present < 0:"):
                self.source.add(f"{target} = None")
            with self.source.block("else:"):
                self.inline_struct(field.kind, target)
                self.flush()
        else:
            self.inline_struct(field.kind, target)

    def inline_struct(self, kind: Kind, target: str) -> None:
        variable = snake_case(kind.name)
        self.new(variable, self.class_names[kind.name])
        self.source.add(f"{target} = {variable}")
        self.struct(self.message.struct(kind.name), variable)

    def variable(self, kind: str, label: str, target: str, *, nullable: bool) -> None:
        """A string, bytes or records: its size ends the run, then its bytes."""
        if self.message.has_records:
            value = {
                "string": 'str(buffer[offset:stop], "utf-8")',
                "bytes": "bytes(buffer[offset:stop])",
                "records": "buffer[offset:stop]",
            }[kind]
        else:
            value = {"string": "buffer[offset:stop].decode()", "bytes": "buffer[offset:stop]"}[kind]
        add = self.source.add
        if self.flexible:
            self.read("B", "size")
            self.flush()
            if kind == "string":
                with self.source.block("if 0 < size < 128:"):
                    add("stop = offset + size - 1")
                    add(f"{target} = {value}")
                    add("offset = stop")
                with self.source.block("else:"):
                    tail = "compact_nullable_string_tail" if nullable else "compact_string_tail"
                    add(f"{target}, offset = {tail}(buffer, offset, size)")
                return
            self.compact_size(nullable=nullable)
        else:
            self.read("h" if kind == "string" else "i", "size")
            self.flush()
        if self.null(label, target, nullable=nullable):
            with self.source.block("else:"):
                add("stop = offset + size")
                add(f"{target} = {value}")
                add("offset = stop")
        else:
            add("stop = offset + size")
            add(f"{target} = {value}")
            add("offset = stop")

    def compact_size(self, *, nullable: bool) -> None:
        """Make `size` of the first byte of a compact size: -1 is null."""
        with self.source.block("if 0 < size < 128:"):
            self.source.add("size -= 1")
        with self.source.block("else:"):
            tail = "compact_nullable_size_tail" if nullable else "compact_size_tail"
            self.source.add(f"size, offset = {tail}(buffer, offset, size)")

    def null(self, label: str, target: str, *, nullable: bool) -> bool:
        """Deal with null; returns whether what follows belongs into an `else`."""
        if nullable:
            with self.source.block("if size < 0:"):
                self.source.add(f"{target} = None")
        elif not self.flexible:
            with self.source.block("if size < 0:"):
                self.source.add(f'raise DecodeError("{label} is null")')
        return nullable

    def array(self, field: Field, target: str, *, nullable: bool) -> None:
        assert isinstance(field.kind, Array)
        if self.flexible:
            self.read("B", "size")
            self.flush()
            self.compact_size(nullable=nullable)
        else:
            self.read("i", "size")
            self.flush()
        if self.null(field.attribute, target, nullable=nullable):
            with self.source.block("else:"):
                self.elements(field, field.kind.element, target)
        else:
            self.elements(field, field.kind.element, target)

    def elements(self, field: Field, element: Kind, target: str) -> None:
        add = self.source.add
        least = max(1, self.least_size(element))
        with self.source.block(f"if size{f' * {least}' if least > 1 else ''} > end - offset:"):
            add(f'raise DecodeError("{field.attribute} has more elements than bytes are left")')
        if element.name in FORMATS and element.name != "uuid":
            letter = FORMATS[element.name]
            width = calcsize(">" + letter)
            add(f'{target} = list(unpack_from(f">{{size}}{letter}", buffer, offset))')
            add(f"offset += size{f' * {width}' if width > 1 else ''}")
            return
        if element.name == "uuid":
            value = "bytes(buffer[at : at + 16])" if self.message.has_records else "buffer[at : at + 16]"
            add("stop = offset + size * 16")
            add(f"{target} = [{value} for at in range(offset, stop, 16)]")
            add("offset = stop")
            return
        add(f"{target} = []")
        if element.is_struct:
            variable = snake_case(element.name)
            append = f"append_{variable}"
            add(f"{append} = {target}.append")
            with self.source.block("for _ in range(size):"):
                self.new(variable, self.class_names[element.name])
                add(f"{append}({variable})")
                self.struct(self.message.struct(element.name), variable)
                self.flush()
        else:
            variable = {"string": "text", "bytes": "blob"}[element.name]
            add(f"append_{variable} = {target}.append")
            with self.source.block("for _ in range(size):"):
                self.variable(element.name, f"an element of {field.attribute}", variable, nullable=False)
                add(f"append_{variable}({variable})")

    # Sizes.

    def least_size(self, kind: Kind) -> int:
        """The fewest bytes that a value can take."""
        if kind.name in FORMATS:
            return calcsize(">" + FORMATS[kind.name])
        if not kind.is_struct:
            return 1 if self.flexible else 2 if kind.name == "string" else 4
        struct = self.message.struct(kind.name)
        total = 1 if self.flexible else 0
        for field in struct.present(self.version):
            if isinstance(field.kind, Array):
                total += 1 if self.flexible else 4
            elif field.kind.is_struct and self.version in field.nullable:
                total += 1
            else:
                total += self.least_size(field.kind)
        return total
