"""The load generator: compiled C where there is a compiler, Python (`raw.py`) where there is none.

On two cores the generator runs beside the broker, so what it uses is taken from the broker: a produce request on its own
costs the Python one about 20 µs, the C one about 5, nearly all of it in the kernel's send and receive.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench import raw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Load", "compiled", "describe", "end_to_end", "fetch", "pump", "pump_cluster"]

_SOURCE = Path(__file__).with_name("generator.c")
_CACHE = Path(__file__).parents[1] / ".cache" / "bench"


@dataclass(frozen=True)
class Load:
    """What was measured, after the warm-up. A latency of a fetch is that of a whole request."""

    seconds: float
    requests: int
    bytes: int
    broker_cpu_s: float
    own_cpu_s: float
    samples: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0
    max_ms: float = 0.0
    other_cpu_s: float = 0.0
    """Of what belongs to the brokers: ZooKeeper."""


@cache
def compiled() -> Path | None:
    """The compiled generator, or None where there is no C compiler (or `BARNABAS_BENCH_PYTHON` is set)."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not sys.platform.startswith("linux") or compiler is None or os.environ.get("BARNABAS_BENCH_PYTHON"):
        return None
    name = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    program = _CACHE / f"generator-{name}"
    if not program.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = program.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O2", "-o", str(unfinished), str(_SOURCE)], check=True)
        unfinished.rename(program)
    return program


def describe() -> str:
    return "C" if compiled() else "Python: its own cost counts against the broker"


def pump(
    broker,
    frames: Sequence[bytes],
    *,
    connections: int = 1,
    depth: int = 1,
    warm_s: float,
    seconds: float,
    warm_bytes: int = 0,
    total_bytes: int = 0,
    error_at: int = -1,
) -> Load:
    """Sends `frames` in turn over `connections`, with `depth` requests under way on each, and counts the answers.

    Both phases end early after so many bytes, if those are given. `error_at` is where an answer has its error code.
    """
    options = {"connections": connections, "depth": depth, "warm_s": warm_s, "seconds": seconds}
    options |= {"warm_bytes": warm_bytes, "bytes": total_bytes, "error_at": error_at}
    return _run("pump", broker, frames, options)


def pump_cluster(
    cluster,
    frames: Mapping[int, Sequence[bytes]],
    *,
    connections: int,
    warm_s: float,
    seconds: float,
    warm_bytes: int = 0,
    total_bytes: int = 0,
    depth: int = 1,
    rate: float = 0,
    error_at: int,
) -> Load:
    """Sends to each port its frames in turn, over as many `connections` to each, and counts the answers of all.

    Each port has the same share of the requests. With a `rate`, so many requests a second are sent in all, and latencies count
    from when each was due.

    Raises:
        RuntimeError: there is no C compiler.
    """
    program = compiled()
    if program is None:
        raise RuntimeError("the load of a cluster needs a C compiler")
    most = max(map(len, frames.values()))
    # Frame j is for port j modulo their number; who has fewer is asked the same again.
    lines = [[own[index % len(own)] for index in range(most)] for own in frames.values()]
    options = {"connections": connections * len(frames), "depth": 4096 if rate else depth, "rate": rate}
    options |= {"warm_s": warm_s, "seconds": seconds, "error_at": error_at}
    options |= {"warm_bytes": warm_bytes, "bytes": total_bytes}
    ports, pids, others = (",".join(map(str, each)) for each in (frames, cluster.pids, cluster.other_pids))
    processes = ["--port", ports, "--pid", pids, *(["--other-pid", others] if others else [])]
    in_turn = [frame for row in zip(*lines, strict=True) for frame in row]
    return _run_compiled(program, "paced" if rate else "pump", cluster.name, in_turn, processes, options)


def fetch(
    broker, topic: str, partitions: int, *, warm_s: float, seconds: float, partition_bytes: int
) -> Load:
    """Fetches all partitions from the start to the end, and then again, on one connection."""
    request = raw.fetch_frame(topic, partitions, partition_bytes=partition_bytes)
    options = {"warm_s": warm_s, "seconds": seconds, "partitions": partitions}
    options["partitions_at"] = raw.fetch_partitions_at(topic)
    return _run("fetch", broker, [request], options)


def end_to_end(broker, topic: str, *, rate: float, warm_s: float, seconds: float, acks: int = -1) -> Load:
    """Produces records of 100 B to an empty topic at a rate, and consumes them; latency is from when each was due."""
    frames = [
        raw.produce_frame(topic, 0, records=1, size_bytes=100, acks=acks),
        raw.fetch_frame(topic, 1, partition_bytes=1 << 19),
    ]
    options = {"rate": rate, "warm_s": warm_s, "seconds": seconds}
    options["partitions_at"] = raw.fetch_partitions_at(topic)
    return _run("endtoend", broker, frames, options)


def _run(mode: str, broker, frames: Sequence[bytes], options: dict[str, float]) -> Load:
    program = compiled()
    if program is None:
        return _answered(broker.name, Load(**getattr(raw, mode)(broker, frames, **options)))
    processes = ["--port", str(broker.port), "--pid", str(broker.pid)]
    return _run_compiled(program, mode, broker.name, frames, processes, options)


def _run_compiled(
    program: Path,
    mode: str,
    name: str,
    frames: Sequence[bytes],
    processes: Sequence[str],
    options: dict[str, float],
) -> Load:
    with tempfile.NamedTemporaryFile(prefix="frames-") as file:
        file.writelines(frames)
        file.flush()
        command = [str(program), mode, file.name, *processes]
        for option, value in options.items():
            command += [f"--{option.replace('_', '-')}", str(value)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip()}")
    return _answered(name, Load(**json.loads(done.stdout)))


def _answered(name: str, load: Load) -> Load:
    if not load.requests:
        raise RuntimeError(f"{name} answered nothing within {load.seconds:.0f} s")
    return load
