"""A message with something in every field, made from its class alone."""

from __future__ import annotations

import re
import sys
import typing

from barnabas.errors import EncodeError

__all__ = ["sample"]

_VALUES = {int: 1, float: 1.5, bool: True, str: "a", bytes: b"0123456789abcdef"}


def sample(cls: type, version: int):
    """A message that can be written in `version` and has no field at its default that the version knows."""
    message = _filled(cls, cls)
    while unknown := _unknown_field(message, version):
        _reset(message, unknown)
    return message


def _unknown_field(message, version: int) -> str | None:
    try:
        message.encode(version)
    except EncodeError as error:
        return re.search(r"it has no (\w+)", str(error))[1]
    return None


def _filled(struct: type, root: type):
    namespace = vars(sys.modules[root.__module__]) | {"Records": bytes}
    hints = typing.get_type_hints(struct.__init__, globalns=namespace) if struct.__slots__ else {}
    return struct(**{name: _value(hints[name], root) for name in struct.__slots__})


def _value(hint, root: type):
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if typing.get_origin(hint) is list:
        return [_value(options[0], root)]
    if options:
        return _value(options[0], root)
    return _VALUES[hint] if hint in _VALUES else _filled(hint, root)


def _reset(struct, name: str) -> None:
    """Put the field of that name back to its default, wherever the message has one."""
    for each in struct.__slots__:
        value = getattr(struct, each)
        if each == name:
            setattr(struct, name, getattr(type(struct)(), name))
        for item in value if isinstance(value, list) else [value]:
            if hasattr(item, "__slots__") and not isinstance(item, memoryview):
                _reset(item, name)
