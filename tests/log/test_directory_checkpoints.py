from types import SimpleNamespace

import pytest

from barnabas.log.directory_checkpoints import (
    CHECKPOINTS,
    CLEANED_OFFSETS,
    HIGH_WATERMARKS,
    LOG_START_OFFSETS,
    RECOVERY_POINTS,
    DirectoryCheckpoints,
)
from barnabas.log.files import Files


def log(**known):
    """A log that is not open, as far as its checkpoints go."""
    unknown = {
        "recovery_point": 0,
        "end_is_known": False,
        "log_start_offset": 0,
        "high_watermark": None,
        "cleaned_offset": None,
        "is_clean": True,
    }
    return SimpleNamespace(log=None, **{**unknown, **known})


@pytest.fixture
def hosted():
    return {
        ("a", 0): log(recovery_point=9, log_start_offset=3, high_watermark=0, end_is_known=True),
        ("b", 1): log(cleaned_offset=7, end_is_known=True),
    }


@pytest.fixture
def checkpoints(tmp_path, hosted):
    return DirectoryCheckpoints(Files(), tmp_path, hosted)


def write_all(checkpoints):
    for name in CHECKPOINTS:
        write = checkpoints.write(name)
        if write is not None:
            write()


def test_what_is_known_is_written_and_read(tmp_path, hosted, checkpoints):
    """Every recovery point, beginnings above 0, and of the others what there is; the next start finds it."""
    write_all(checkpoints)
    assert checkpoints.offsets(RECOVERY_POINTS) == {("a", 0): 9, ("b", 1): 0}
    assert checkpoints.offsets(LOG_START_OFFSETS) == {("a", 0): 3}
    assert checkpoints.offsets(HIGH_WATERMARKS) == {("a", 0): 0}
    assert checkpoints.offsets(CLEANED_OFFSETS) == {("b", 1): 7}
    found = {key: log() for key in hosted}
    DirectoryCheckpoints(Files(), tmp_path, found).read(None)
    assert found == hosted


def test_a_recovery_point_is_the_end_only_after_an_orderly_one(tmp_path, checkpoints):
    """After a crash there may be more behind it."""
    write_all(checkpoints)
    found = {("a", 0): log(is_clean=False)}
    DirectoryCheckpoints(Files(), tmp_path, found).read(None)
    assert (found["a", 0].recovery_point, found["a", 0].end_is_known) == (9, False)


def test_an_open_log_knows_better(hosted, checkpoints):
    """Its checkpoints are those of before the start."""
    hosted["a", 0].log = log(recovery_point=20, log_start_offset=10, high_watermark=20)
    assert checkpoints.offsets(RECOVERY_POINTS)["a", 0] == 20
    assert checkpoints.offsets(LOG_START_OFFSETS) == {("a", 0): 10}


def test_nothing_is_written_twice(checkpoints):
    """A file that says so already is left alone."""
    write_all(checkpoints)
    assert [checkpoints.write(name) for name in CHECKPOINTS] == [None] * 4


def test_a_new_log_finds_nothing_of_a_former_one(tmp_path, hosted, checkpoints):
    """In no file; and a write that is on its way does not put it back."""
    write_all(checkpoints)
    on_its_way = checkpoints.write(RECOVERY_POINTS, {("a", 0): 11, ("b", 1): 2})
    del hosted["a", 0]
    checkpoints.forget(("a", 0))
    on_its_way()
    found = {("a", 0): log(), ("b", 1): log()}
    DirectoryCheckpoints(Files(), tmp_path, found).read(None)
    assert found == {("a", 0): log(), ("b", 1): log(cleaned_offset=7, end_is_known=True)}


def test_a_recovery_point_is_lowered_and_never_raised(tmp_path, checkpoints):
    """What was cut off and is written anew is not taken for checked."""
    write_all(checkpoints)
    checkpoints.lower_recovery_point(("a", 0), 20)()
    checkpoints.lower_recovery_point(("a", 0), 4)()
    found = {("a", 0): log()}
    DirectoryCheckpoints(Files(), tmp_path, found).read(None)
    assert found["a", 0].recovery_point == 4
