"""Every message class and version there is, as test parameters."""

from __future__ import annotations

import importlib
import os
import pkgutil

import pytest
from hypothesis import HealthCheck, Phase, settings

from barnabas.wire import messages

__all__ = ["CLASSES", "VERSIONS", "few_examples", "layouts"]


few_examples = settings(
    max_examples=6,
    deadline=None,
    database=None,
    derandomize=bool(os.environ.get("CI")),
    # What is wrong in a layout is wrong in many versions: shrinking each failure would take minutes.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""For tests that are repeated for every message and version."""


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


def layouts(cls):
    """The versions of a class that differ on the wire: the first one of each layout."""
    first = {}
    for version, decoder in cls._decoders.items():
        first.setdefault((decoder, cls._encoders[version]), version)
    return list(first.values())
