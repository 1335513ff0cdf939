"""Where the message definitions come from: JSON files with `//` comments inside Kafka's jars."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

__all__ = ["NEW_VERSION", "OLD_VERSION", "fetch_jars", "read_definitions"]

NEW_VERSION = "4.3.0"
OLD_VERSION = "3.9.1"

_DEFINITION = re.compile(r"(common/message|common/metadata|message)/\w+\.json")
_STRING_OR_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*')


def fetch_jars(directory: Path) -> None:
    """Have Maven put the jars that `pom.xml` pins into `directory`.

    Raises:
        FileNotFoundError: there is no `mvn` on the path.
        subprocess.CalledProcessError: Maven could not get them; its output says why.
    """
    pom = Path(__file__).with_name("pom.xml")
    command = ["mvn", "-q", "-B", "-f", str(pom), f"-Djars.directory={directory}", "generate-sources"]
    subprocess.run(command, check=True, capture_output=True, text=True)


def read_definitions(jar: Path) -> dict[str, dict[str, Any]]:
    """All definitions in a jar, by message name."""
    definitions = {}
    with zipfile.ZipFile(jar) as archive:
        for name in sorted(archive.namelist()):
            if _DEFINITION.fullmatch(name):
                text = archive.read(name).decode()
                plain = _STRING_OR_COMMENT.sub(lambda match: match[1] or "", text)
                definition = json.loads(plain)
                definitions[definition["name"]] = definition
    return definitions
