"""A few seconds of each fuzzer with a fixed seed; `make fuzz SECONDS=3600` runs them for as long as one likes."""

from __future__ import annotations

import sys

import pytest

from tests.fuzz import files, wire

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the watch reads /proc"),
]

SECONDS = 6
SEED = 20_260


def test_damaged_requests_disturb_nobody(tmp_path):
    """Whatever is sent, others are served rightly, memory and descriptors stay, and nothing unforeseen is logged."""
    figures = wire.fuzz(
        tmp_path / "wire", seconds=SECONDS, seed=SEED, save_to=tmp_path / "found", frames_min=600
    )
    print(figures)
    assert figures["frames"] >= 600
    assert figures["answers_checked"] > 50


def test_damaged_files_serve_nothing_wrong(tmp_path):
    """Whatever happens to files, a record is served as it was written or not at all."""
    figures = files.fuzz(tmp_path / "files", seconds=SECONDS, seed=SEED, save_to=tmp_path / "found")
    print(figures)
    assert figures["records_checked"] > 0
