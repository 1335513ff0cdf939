"""Simulated clusters from fixed seeds; `make simulate` runs others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2, 206, 217])
def test_nothing_acknowledged_is_lost(seed):
    """Whatever is killed, paused, cut off or loses its power: acknowledged records are there once, in order, on all replicas."""
    # A process of its own: the order of sets of strings is part of what happens.
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", str(seed), "--seconds", "10", "--lines", "60"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
