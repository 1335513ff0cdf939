"""Regenerate `src/barnabas/wire/messages` and `src/barnabas/wire/apis.py`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.codegen.definitions import fetch_jars
from tools.codegen.messages import read_messages
from tools.codegen.package import GeneratedFile, api_table, message_modules

__all__ = ["generate", "main"]

_ROOT = Path(__file__).parents[2]


def generate(jars: Path, old_jars: Path) -> list[GeneratedFile]:
    """Every generated file, formatted."""
    rooms = read_messages(jars, old_jars)
    return _format([*message_modules(rooms), api_table(rooms[""])])


def _format(files: list[GeneratedFile]) -> list[GeneratedFile]:
    """The files as `ruff format` writes them with this project's settings."""
    with tempfile.TemporaryDirectory() as directory:
        for file in files:
            path = Path(directory, file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
        command = [
            "ruff",
            "format",
            "-q",
            "--line-length",
            "110",
            "--isolated",
            "--target-version",
            "py311",
            ".",
        ]
        subprocess.run([sys.executable, "-m", *command], cwd=directory, check=True)
        return [GeneratedFile(file.path, Path(directory, file.path).read_text()) for file in files]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.codegen", description=__doc__)
    parser.add_argument(
        "--jars", type=Path, help="a directory that has the jars of pom.xml (default: Maven gets them)"
    )
    parser.add_argument(
        "--old-jars", type=Path, help="where the older release's jar is, if it is not there too"
    )
    parser.add_argument(
        "--output", type=Path, default=_ROOT / "src/barnabas/wire", help="where `messages` goes"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    arguments = parser.parse_args()
    jars = arguments.jars
    if jars is None:
        jars = _ROOT / ".cache/kafka-jars"
        fetch_jars(jars)
    files = generate(jars, arguments.old_jars or jars)
    expected = {arguments.output / file.path: file.text for file in files}
    present = set((arguments.output / "messages").rglob("*.py"))
    stale = sorted(present - expected.keys())
    changed = sorted(p for p, text in expected.items() if not p.exists() or p.read_text() != text)
    if arguments.check:
        for path in (*stale, *changed):
            print(f"{path} is not what the definitions give")
        sys.exit(1 if stale or changed else 0)
    for path in stale:
        path.unlink()
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(expected[path])
    print(f"{len(files)} files, {len(changed)} changed, {len(stale)} removed")


if __name__ == "__main__":
    main()
