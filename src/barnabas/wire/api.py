"""What is known of an API before any of its messages is imported."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from barnabas.wire.message import Message

__all__ = ["BROKER_SOFTWARE", "Api"]

BROKER_SOFTWARE = "barnabas-broker"
"""What a broker calls itself to other brokers (ApiVersions), who tell it of APIs that are not for clients."""


class Api:
    """An API of the protocol.

    `module` and the classes are derived from the name; a message module is imported when one of its classes is
    first asked for.
    """

    __slots__ = (
        "_classes",
        "flexible_from",
        "key",
        "latest_version_unstable",
        "listeners",
        "max_version",
        "min_version",
        "module",
        "name",
    )

    def __init__(
        self,
        key: int,
        name: str,
        min_version: int,
        max_version: int,
        flexible_from: int,
        listeners: tuple[str, ...],
        *,
        latest_version_unstable: bool = False,
    ) -> None:
        self.key = key
        self.name = name
        self.module = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        self.min_version = min_version
        self.max_version = max_version
        self.flexible_from = flexible_from
        self.listeners = listeners
        self.latest_version_unstable = latest_version_unstable
        self._classes: tuple[type[Any], type[Any]] | None = None

    @property
    def request_class(self) -> type[Message]:
        """The class of the API's requests."""
        return (self._classes or self._import())[0]

    @property
    def response_class(self) -> type[Message]:
        """The class of the API's responses."""
        return (self._classes or self._import())[1]

    def _import(self) -> tuple[type[Any], type[Any]]:
        module = importlib.import_module(f"barnabas.wire.messages.{self.module}")
        self._classes = (getattr(module, f"{self.name}Request"), getattr(module, f"{self.name}Response"))
        return self._classes

    def __repr__(self) -> str:
        return f"Api({self.key}, {self.name!r}, versions {self.min_version}-{self.max_version})"
