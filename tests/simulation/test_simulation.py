"""Simulated clusters from fixed seeds; `make simulate` runs others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    # A process of its own: the order of sets of strings is part of what happens.
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


# Each has found something once: coordinators of a life that was over, a leader that had lost its log, what a truncation left behind,
# a coordinator that told of what only it had, one that set no timer, a transaction index that two power failures emptied. The first two have
# fsync-always: they fail where followers speak of what they have not synced.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [6, 18, 1, 2, 3, 13, 32, 1011, 1072, 1201, 1241, 1685, 30198, 760353908])
def test_nothing_acknowledged_is_lost(seed):
    """Whatever is killed, paused, cut off or loses its power: acknowledged records are there once, in order, on all replicas."""
    done = run(seed, "--lines", 60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_a_seed_decides_everything():
    """The same seed does the same, to the last record; another one does something else."""
    first, again, other = (run(seed, "--seconds", 2).stdout.split(" simulated s")[0] for seed in (5, 5, 6))
    assert first == again
    assert first.split(":")[1] != other.split(":")[1]


@pytest.mark.timeout(300)
def test_a_violation_is_told():
    """With the seed, what happened before, and the command that repeats it; the end is not 0."""
    plant = (
        "import sys; from barnabas.replication.leading import Leading\n"
        "true = Leading.on_fetch\n"
        "def early(self, progress, log, *, fetch_offset, **rest):\n"
        "    true(self, progress, log, fetch_offset=log.log_end_offset, **rest)\n"
        "Leading.on_fetch = early\n"
        "from tests.simulation.__main__ import main\n"
        "sys.argv = ['simulate', '7']\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", plant],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED seed 7" in done.stdout
    assert "counts as in sync" in done.stdout
    assert "make simulate SEED=7" in done.stdout
