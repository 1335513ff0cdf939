"""Where the jars of Apache Kafka are: the oracle that many tests compare with.

They are copied by Maven into `.cache/kafka-VERSION/libs` of the checkout once; `BARNABAS_KAFKA_JARS` (4.3.0) and
`BARNABAS_KAFKA39_JARS` (3.9.1) name other directories.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["KAFKA_39", "KAFKA_43", "OracleMissingError", "find_kafka_jars", "kafka_jars", "run_java"]

KAFKA_43 = "4.3.0"
KAFKA_39 = "3.9.1"

_CHECKOUT = Path(__file__).resolve().parents[2]
_POMS = {KAFKA_43: "pom.xml", KAFKA_39: "pom-3.9.xml"}
_OVERRIDES = {KAFKA_43: "BARNABAS_KAFKA_JARS", KAFKA_39: "BARNABAS_KAFKA39_JARS"}


class OracleMissingError(RuntimeError):
    """Apache Kafka cannot be had on this machine; the message says why."""


def kafka_jars(version: str = KAFKA_43) -> str:
    """The class path of Apache Kafka and its tools.

    Skips the test with the reason where Java or Maven are missing; fails it for the same cause when CI is set.
    """
    try:
        return find_kafka_jars(version)
    except OracleMissingError as error:
        import pytest

        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@cache
def find_kafka_jars(version: str = KAFKA_43) -> str:
    """The same without pytest (for the bench).

    Raises:
        OracleMissingError: Java or Maven are missing, or Maven cannot fetch the jars.
    """
    if shutil.which("java") is None:
        raise OracleMissingError("java is missing (Debian: apt install default-jre-headless)")
    override = os.environ.get(_OVERRIDES[version])
    if override:
        if not any(Path(override).glob("kafka-clients-*.jar")):
            raise OracleMissingError(f"{_OVERRIDES[version]}={override} has no kafka-clients jar")
        return f"{override}/*"
    pom = Path(__file__).with_name(_POMS[version])
    libs = _CHECKOUT / ".cache" / f"kafka-{version}" / "libs"
    stamp = libs.parent / "stamp"
    wanted = f"{zlib.crc32(pom.read_bytes()):08x}"
    libs.parent.mkdir(parents=True, exist_ok=True)
    with _locked(libs.parent / "lock"):
        if not stamp.exists() or stamp.read_text() != wanted:
            _copy(pom, libs)
            stamp.write_text(wanted)
    return f"{libs}/*"


def run_java(
    main: str, arguments: Sequence[str], *, version: str = KAFKA_43, timeout_s: float = 110
) -> subprocess.CompletedProcess[str]:
    """Run a class of Apache Kafka to its end and return what it wrote; a failure raises with its output."""
    done = subprocess.run(
        [
            "java",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Xmx256m",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            kafka_jars(version),
            main,
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(
            f"{main} {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
    return done


def _copy(pom: Path, libs: Path) -> None:
    if shutil.which("mvn") is None:
        raise OracleMissingError("mvn is missing (Debian: apt install maven)")
    shutil.rmtree(libs, ignore_errors=True)
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={libs}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise OracleMissingError(f"mvn could not fetch Apache Kafka:\n{done.stdout}\n{done.stderr}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file, so that parallel test workers fetch only once."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
