"""A Java source of the tests, compiled against Apache Kafka's classes and running: questions in, answers out."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.oracle.kafka_jars import KAFKA_43, kafka_jars

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["JavaProgram"]

_QUICK_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m")
_STOP_DEADLINE_S = 30


class JavaProgram:
    """The class of one source file; skips the test where there is no compiler, and fails it for that when CI is set.

    `directory` takes its classes and what it writes to standard error; it is run with `arguments`.
    """

    def __init__(self, source: Path, directory: Path, *arguments: str, version: str = KAFKA_43) -> None:
        class_path = kafka_jars(version)
        if shutil.which("javac") is None:
            reason = "javac is missing (Debian: apt install default-jdk-headless)"
            if os.environ.get("CI"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
        classes = directory / "classes"
        subprocess.run(["javac", "-d", classes, "-cp", class_path, source], check=True)
        self._errors_path = directory / "stderr"
        with self._errors_path.open("wb") as errors:
            self._process = subprocess.Popen(
                ["java", *_QUICK_JVM, "-cp", f"{classes}{os.pathsep}{class_path}", source.stem, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def close(self) -> None:
        """Ends its input, and waits for it."""
        self._process.stdin.close()
        self._process.wait(_STOP_DEADLINE_S)
        self._process.stdout.close()

    def ask(self, question: bytes) -> None:
        """Writes to its input."""
        self._process.stdin.write(question)
        self._process.stdin.flush()

    def line(self) -> str:
        """A line of its answer."""
        line = self._process.stdout.readline()
        assert line, self._last_words()
        return line.decode().rstrip("\n")

    def read(self, size: int) -> bytes:
        """So many bytes of its answer."""
        data = self._process.stdout.read(size)
        assert len(data) == size, self._last_words()
        return data

    def _last_words(self) -> str:
        return f"the oracle died: {self._errors_path.read_text()}"
