"""A Java process that answers questions about configuration with Apache Kafka's own classes (`java/Oracle.java`)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote_plus, unquote_plus

import pytest

from tests.oracle.kafka_jars import kafka_jars

__all__ = ["KafkaConfigOracle"]

_SOURCE = Path(__file__).with_name("java") / "Oracle.java"


class KafkaConfigOracle:
    """Apache Kafka's tables of keys, its types and ranges, and `java.util.Properties`."""

    def __init__(self, directory: Path) -> None:
        class_path = kafka_jars()
        if shutil.which("javac") is None:
            reason = "javac is missing (Debian: apt install default-jdk-headless)"
            if os.environ.get("CI"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
        subprocess.run(["javac", "-d", directory, "-cp", class_path, _SOURCE], check=True)
        options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]
        self._stderr = (directory / "stderr").open("wb")
        self._process = subprocess.Popen(
            ["java", *options, "-cp", f"{directory}{os.pathsep}{class_path}", "Oracle"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._stderr.close()

    def tables(self) -> list[list[str | None]]:
        """table, name, type, default, importance, dynamic mode, internal."""
        return self._rows("keys")

    def synonyms(self) -> list[list[str | None]]:
        """table, name, broker keys."""
        return self._rows("synonyms")

    def parse(self, table: str, name: str, text: str) -> tuple[bool, str | None]:
        """Whether the value fits, and its canonical text or the refusal."""
        self._ask("parse", table, name, text)
        verdict, detail = self._answer()
        return verdict == "ok", detail

    def properties(self, text: str) -> dict[str, str] | None:
        """What a properties file holds, or None if it is malformed."""
        self._ask("properties", text)
        found = {}
        while (answer := self._answer())[0] == "property":
            found[answer[1]] = answer[2]
        return found if answer == ["end"] else None

    def _rows(self, question: str) -> list[list[str | None]]:
        self._ask(question)
        rows = []
        while (row := self._answer()) != ["end"]:
            rows.append(row[1:])
        return rows

    def _ask(self, *fields: str) -> None:
        line = "\t".join(quote_plus(field, errors="surrogatepass") for field in fields)
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def _answer(self) -> list[str | None]:
        line = self._process.stdout.readline().decode().rstrip("\n")
        assert line, f"the oracle died: {Path(self._stderr.name).read_text()}"
        return [None if field == "-" else unquote_plus(field) for field in line.split("\t")]
