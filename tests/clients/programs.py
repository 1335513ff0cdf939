"""How each client's program is started, and built first where it must be.

Whatever a client needs beyond Python is fetched by the lock files here (npm, Go modules) or by Maven, once, into
`node/node_modules` and `.cache` of the checkout; `python -m tests.clients.programs` does it ahead of the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.oracle.kafka_jars import KAFKA_39, KAFKA_43, OracleMissingError, find_kafka_jars

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["CLIENTS", "MissingToolError", "Program", "program"]

_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parents[1] / ".cache" / "clients"
_LEAST_GO = (1, 24)


class MissingToolError(RuntimeError):
    """A client cannot be had on this machine; the message says why."""


class Program(NamedTuple):
    command: tuple[str, ...]
    environment: dict[str, str]


CLIENTS = ("confluent-kafka", "aiokafka", "kafka-python", "kafkajs", "java-4.3", "java-3.9", "franz-go")


@cache
def program(client: str) -> Program:
    """How to start a client's program.

    Raises:
        MissingToolError: it cannot be had on this machine.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BARNABAS_")}
    match client:
        case "confluent-kafka" | "aiokafka" | "kafka-python":
            file = _HERE / "python" / f"{client.removesuffix('-kafka').replace('-', '_')}_peer.py"
            # A client that is not as tidy as we are with sockets and deprecations is still a client.
            return Program((sys.executable, "-W", "ignore", str(file)), environment)
        case "kafkajs":
            environment["KAFKAJS_NO_PARTITIONER_WARNING"] = "1"
            return Program((_node(), str(_HERE / "node" / "peer.js")), environment)
        case "java-4.3":
            return Program(_java(KAFKA_43), environment)
        case "java-3.9":
            return Program(_java(KAFKA_39), environment)
        case "franz-go":
            return Program((_go(),), environment)
    raise KeyError(client)


def _tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MissingToolError(f"{name} is missing (Debian: apt install {package})")
    return path


def _run(
    command: Sequence[str], directory: Path, what: str, environment: dict[str, str] | None = None
) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        raise MissingToolError(f"{what}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def _fingerprint(files: Sequence[Path], more: str = "") -> str:
    checksum = zlib.crc32(more.encode())
    for file in sorted(files):
        checksum = zlib.crc32(file.read_bytes(), zlib.crc32(file.name.encode(), checksum))
    return f"{checksum:08x}"


@contextmanager
def _once(name: str, wanted: str, result: Path) -> Iterator[bool]:
    """Tells, under a lock that parallel test workers share, whether the result must be made."""
    import fcntl

    _CACHE.mkdir(parents=True, exist_ok=True)
    stamp = _CACHE / f"{name}.stamp"
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stale = not result.exists() or not stamp.exists() or stamp.read_text() != wanted
        yield stale
        if stale:
            stamp.write_text(wanted)


def _node() -> str:
    node = _tool("node", "nodejs")
    directory = _HERE / "node"
    wanted = _fingerprint([directory / "package-lock.json"])
    with _once("node", wanted, directory / "node_modules") as stale:
        if stale:
            npm = _tool("npm", "npm")
            _run(
                [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                directory,
                "npm could not fetch KafkaJS",
            )
    return node


def _go() -> str:
    directory = _HERE / "go"
    binary = _CACHE / "go" / "peer"
    files = [*directory.glob("*.go"), directory / "go.mod", directory / "go.sum"]
    with _once("go", _fingerprint(files), binary) as stale:
        if stale:
            go, environment = _go_tool(directory)
            _run([go, "mod", "download"], directory, "Go could not fetch franz-go", environment)
            binary.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                [go, "build", "-trimpath", "-o", str(binary), "."], cwd=directory, check=True, env=environment
            )
    return str(binary)


def _go_tool(directory: Path) -> tuple[str, dict[str, str]]:
    """A Go that franz-go can be built with, and the environment for it.

    Go fetches a newer one by itself where `go.mod` asks for it, as a module like any other, from 1.21 on. An older one (Debian
    bookworm has 1.19) is told to.
    """
    go = _tool("go", "golang-go")
    environment = {**os.environ, "GOTOOLCHAIN": "auto", "GOFLAGS": ""}
    shown = _go_version(go, directory, environment)
    if shown >= _LEAST_GO:
        return go, environment
    least = ".".join(map(str, _LEAST_GO))
    missing = f"franz-go needs Go {least}, this is {'.'.join(map(str, shown)) or 'older'}"
    platform = subprocess.run(
        [go, "env", "GOOS", "GOARCH"], capture_output=True, text=True, check=True
    ).stdout.split()
    done = subprocess.run(
        [go, "mod", "download", "-json", f"golang.org/toolchain@v0.0.1-go{least}.0.{'-'.join(platform)}"],
        cwd=directory.parent,
        env={**environment, "GO111MODULE": "on"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise MissingToolError(f"{missing}, and a newer one could not be fetched: {done.stdout}{done.stderr}")
    root = Path(json.loads(done.stdout)["Dir"])
    for program in [*(root / "bin").iterdir(), *(root / "pkg" / "tool").rglob("*")]:
        if program.is_file():
            program.chmod(0o755)  # modules have no programs, says Go
    environment |= {"GOTOOLCHAIN": "local", "GOROOT": str(root)}
    go = str(root / "bin" / "go")
    if _go_version(go, directory, environment) < _LEAST_GO:
        raise MissingToolError(missing)
    return go, environment


def _go_version(go: str, directory: Path, environment: dict[str, str]) -> tuple[int, ...]:
    shown = subprocess.run(
        [go, "env", "GOVERSION"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    version = re.match(r"go(\d+)\.(\d+)", shown)
    return () if version is None else (int(version[1]), int(version[2]))


def _java(version: str) -> tuple[str, ...]:
    java = _tool("java", "default-jdk-headless")
    try:
        jars = find_kafka_jars(version)
    except OracleMissingError as error:
        raise MissingToolError(str(error)) from None
    classes = _CACHE / f"java-{version}"
    files = sorted((_HERE / "java").glob("*.java"))
    with _once(f"java-{version}", _fingerprint(files, jars), classes) as stale:
        if stale:
            javac = _tool("javac", "default-jdk-headless")
            shutil.rmtree(classes, ignore_errors=True)
            classes.mkdir(parents=True)
            subprocess.run(
                [
                    javac,
                    "-proc:none",
                    "-nowarn",
                    "-Xlint:none",
                    "-cp",
                    jars,
                    "-d",
                    str(classes),
                    *map(str, files),
                ],
                check=True,
                capture_output=True,
            )
    return (
        java,
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xshare:auto",
        "-Xmx256m",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        f"{classes}:{jars}",
        "Peer",
    )


def main() -> None:
    """Fetches and builds everything that can be had here."""
    for client in CLIENTS:
        try:
            program(client)
        except MissingToolError as error:
            print(f"peers: {client}: {error}; its tests are skipped", file=sys.stderr)


if __name__ == "__main__":
    main()
