"""Requests written as nested dicts, in whatever version is asked for."""

from __future__ import annotations

import functools
import re
import sys
import typing

from barnabas.errors import EncodeError

__all__ = ["build", "fitted"]


def build(cls: type, **fields):
    """A message of `cls`; dicts become the structs that belong there."""
    hints = _hints(cls, cls)
    return cls(**{name: _value(value, hints[name], cls) for name, value in fields.items()})


def _value(value, hint, root: type):
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if isinstance(value, dict):
        struct = options[0] if options else hint
        hints = _hints(struct, root)
        return struct(**{name: _value(item, hints[name], root) for name, item in value.items()})
    if isinstance(value, list | tuple):
        inner = hint if typing.get_origin(hint) is list else options[0]
        return [_value(item, typing.get_args(inner)[0], root) for item in value]
    return value


@functools.cache
def _hints(struct: type, root: type):
    namespace = vars(sys.modules[root.__module__]) | {"Records": bytes}
    return typing.get_type_hints(struct.__init__, globalns=namespace)


def fitted(message, version: int):
    """The message without the fields that `version` does not know; None if it cannot be said in that version."""
    while True:
        try:
            message.encode(version)
        except EncodeError as error:
            unknown = re.search(r"it has no (\w+)", str(error))
            if unknown is None or not _reset(message, unknown[1]):
                return None
        else:
            return message


def _reset(struct, name: str) -> bool:
    found = False
    for each in struct.__slots__:
        value = getattr(struct, each)
        if each == name:
            default = getattr(type(struct)(), name)
            found |= value != default
            setattr(struct, name, default)
        for item in value if isinstance(value, list) else [value]:
            if hasattr(item, "__slots__") and not isinstance(item, memoryview):
                found |= _reset(item, name)
    return found
