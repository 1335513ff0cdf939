from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from barnabas.log.deletion import Deletions
from barnabas.log.files import Files


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as made:
        yield made


def test_paths_go_when_their_time_has_come(tmp_path, executor):
    """What is due earlier goes earlier, files and whole directories."""
    file, tree, later = tmp_path / "a.log.deleted", tmp_path / "t-0.x-delete", tmp_path / "b.log.deleted"
    file.touch()
    later.touch()
    (tree / "inner").mkdir(parents=True)
    (tree / "inner" / "file").touch()

    async def scenario():
        deletions = Deletions(asyncio.get_running_loop(), executor, Files(), lambda *_: None)
        deletions.schedule([later], 3_600_000)
        deletions.schedule([file, tmp_path / "gone.log"], 0)
        deletions.schedule([tree], 20, are_directories=True)
        await until(lambda: not tree.exists())
        assert not file.exists()
        assert later.exists()
        assert len(deletions) == 1
        await deletions.close()

    asyncio.run(scenario())
    assert later.exists()


def test_a_failure_is_told(tmp_path, executor):
    """A path that the disk does not let go is reported, and the others go all the same."""

    class Failing(Files):
        def delete(self, path):
            if path.name == "bad":
                raise OSError(5, "Input/output error")
            return super().delete(path)

    good = tmp_path / "good"
    good.touch()
    failed = []

    async def scenario():
        deletions = Deletions(
            asyncio.get_running_loop(),
            executor,
            Failing(),
            lambda path, error: failed.append((path, error.errno)),
        )
        deletions.schedule([tmp_path / "bad", good], 0)
        await until(lambda: failed)
        await deletions.close()

    asyncio.run(scenario())
    assert failed == [(tmp_path / "bad", 5)]
    assert not good.exists()
