"""Every message class and version there is, as test parameters."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from barnabas.wire import messages

__all__ = ["CLASSES", "VERSIONS"]


def _classes():
    for module in pkgutil.walk_packages(messages.__path__, f"{messages.__name__}."):
        names = getattr(importlib.import_module(module.name), "__all__", ())
        for name in names:
            yield getattr(importlib.import_module(module.name), name)


CLASSES = sorted(_classes(), key=lambda cls: (cls.__module__, cls.__name__))
"""All message classes."""

VERSIONS = [
    pytest.param(cls, version, id=f"{cls.__name__}-{version}")
    for cls in CLASSES
    for version in range(cls.MIN_VERSION, cls.MAX_VERSION + 1)
]
"""All pairs of a class and one of its versions."""
