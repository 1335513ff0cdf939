"""Say which version this is, and of what it is made: what a bug report should begin with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from barnabas import __version__

if TYPE_CHECKING:
    import argparse

__all__ = ["arguments", "run"]

_PARTS = ("uvloop", "crc32c", "cramjam", "confluent-kafka", "prometheus-client")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--json", action="store_true", help="write a JSON object")


def run(options: argparse.Namespace) -> int:
    """Writes the version of Barnabas, of Python and of what is installed beside it."""
    parts = {"barnabas": __version__, "python": sys.version.split()[0], **_installed()}
    if options.json:
        import json

        print(json.dumps(parts))
    else:
        others = ", ".join(f"{name} {version}" for name, version in parts.items() if name != "barnabas")
        print(f"barnabas {__version__} ({others})")
    return 0


def _installed() -> dict[str, str]:
    from importlib import metadata

    found = {}
    for part in _PARTS:
        try:
            found[part] = metadata.version(part)
        except metadata.PackageNotFoundError:
            continue
    return found
