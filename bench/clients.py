"""Real clients as processes: librdkafka by confluent-kafka, franz-go where Go is."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from bench.generator import Load

__all__ = ["CLIENTS", "MissingClientError", "run"]

_HERE = Path(__file__).parent
_CACHE = _HERE.parent / ".cache" / "bench"

CLIENTS = {
    "librdkafka": ("produce", "consume", "consume-short-pauses"),
    "franz-go": ("produce", "consume"),
}
"""Each client with its modes, in which `consume` comes after `produce`."""


class MissingClientError(RuntimeError):
    """A client cannot be had on this machine; the message says why."""


@cache
def _command(client: str) -> tuple[str, ...]:
    if client == "librdkafka":
        return sys.executable, str(_HERE / "rdkafka.py")
    go = shutil.which("go")
    if go is None:
        raise MissingClientError("franz-go: go is missing (Debian: apt install golang-go)")
    sources = [_HERE / "go" / name for name in ("main.go", "go.mod", "go.sum")]
    name = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    built = _CACHE / f"franz-go-{name}"
    if not built.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [go, "build", "-o", str(built), "."],
            cwd=_HERE / "go",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise MissingClientError(f"franz-go: {done.stderr.strip().splitlines()[-1]}")
    return (str(built),)


def run(
    client: str,
    mode: str,
    broker,
    topic: str,
    partitions: int,
    *,
    warm_bytes: int,
    total_bytes: int,
    size_bytes: int,
) -> Load:
    """`mode` is one of the client's in `CLIENTS`. A request of the load is a record.

    Raises:
        MissingClientError: the client cannot be had on this machine.
    """
    numbers = (partitions, broker.pid, warm_bytes, total_bytes, size_bytes)
    command = [*_command(client), mode, f"127.0.0.1:{broker.port}", topic, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{client} with {broker.title}: {done.stderr.strip()}")
    return Load(**json.loads(done.stdout))
