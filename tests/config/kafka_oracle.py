"""A Java process that answers questions about configuration with Apache Kafka's own classes (`java/Oracle.java`)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote_plus, unquote_plus

from tests.oracle.java_program import JavaProgram

__all__ = ["KafkaConfigOracle"]

_SOURCE = Path(__file__).with_name("java") / "Oracle.java"


class KafkaConfigOracle:
    """Apache Kafka's tables of keys, its types and ranges, and `java.util.Properties`."""

    def __init__(self, directory: Path) -> None:
        self._java = JavaProgram(_SOURCE, directory)
        self.close = self._java.close

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
        self._java.ask(f"{line}\n".encode())

    def _answer(self) -> list[str | None]:
        return [None if field == "-" else unquote_plus(field) for field in self._java.line().split("\t")]
