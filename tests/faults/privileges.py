"""Root without what makes it root to files: what nobody may read, it may not read either.

    with unprivileged():
        ...  # this thread and those that it starts

Source: capabilities(7), capset(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import sys

__all__ = ["unprivileged"]

_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextlib.contextmanager
def unprivileged():
    """Without effect for a user who is not root, and where the system has no capabilities. Raises OSError."""
    if not sys.platform.startswith("linux"):
        yield
        return
    sets = (_Sets * 2)()
    _call("capget", sets)
    before = sets[0].effective
    sets[0].effective = before & ~(1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH)
    _call("capset", sets)
    try:
        yield
    finally:
        sets[0].effective = before
        _call("capset", sets)


def _call(name, sets):
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(ctypes.byref(_Header(_VERSION_3, 0)), sets):
        raise OSError(ctypes.get_errno(), name)
