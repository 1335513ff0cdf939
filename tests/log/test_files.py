from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import re
import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from barnabas.errors import StorageError
from barnabas.log import files as files_module
from barnabas.log.files import ColdRead, File, Files
from barnabas.wire.chunks import FileRegion

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs reads that do not wait for the disk")


@pytest.fixture
def files():
    return Files(3)


def count_descriptors():
    return len(list(Path("/dev/fd").iterdir()))


def make(files, path, content=b""):
    files.write_file(path, content)
    return files.handle(path)


def receive(connection, count):
    data = b""
    while len(data) < count:
        data += connection.recv(count - len(data))
    return data


class TestHandles:
    def test_write_and_read(self, files, tmp_path):
        """What is written at a position is read there; a read past the end is short."""
        file = files.create(tmp_path / "a")
        files.write_at(file, 0, b"hello")
        files.write_at(file, 5, memoryview(b" world"))
        assert files.read_at(file, 4, 100) == b"o world"
        assert files.read_at(file, 11, 1) == b""

    def test_limit_of_open_descriptors(self, files, tmp_path):
        """However many handles are used, no more than the limit are open, and each still works."""
        handles = [make(files, tmp_path / str(number), b"%d" % number) for number in range(20)]
        before = count_descriptors()
        for _ in range(3):
            for number, file in enumerate(handles):
                assert files.read_at(file, 0, 10) == b"%d" % number
        assert files.open_count == 3
        assert count_descriptors() == before + 3

    def test_the_least_recently_used_is_closed(self, files, tmp_path):
        """A handle in constant use stays open while others come and go."""
        busy = make(files, tmp_path / "busy", b"x")
        for number in range(10):
            files.read_at(busy, 0, 1)
            files.read_at(make(files, tmp_path / str(number), b"y"), 0, 1)
        assert busy.descriptor >= 0

    def test_pinned_descriptors_stay_open(self, files, tmp_path):
        """Pins may exceed the limit; it holds again once they are gone."""
        handles = [make(files, tmp_path / str(number), b"x") for number in range(6)]
        for file in handles:
            files.pin(file)
        assert files.open_count == 6
        assert all(file.descriptor >= 0 for file in handles)
        for file in handles:
            files.unpin(file)
        assert files.open_count == 3

    def test_thousands_of_pins_do_not_make_the_next_one_dear(self, files, tmp_path):
        """With all handles pinned, opening one more looks at some of them for one to close, not at each."""
        looked_at = 0

        class Pinned:
            def __get__(self, file, _=None):
                nonlocal looked_at
                looked_at += 1
                return 1

            def __set__(self, file, count):
                pass

        class Watched(File):
            __slots__ = ()
            pins = Pinned()

        files._open = {Watched(str(number)): None for number in range(1000)}
        files.pin(make(files, tmp_path / "one more", b"x"))
        assert 0 < looked_at < 200
        assert files.open_count == 1001

    def test_a_removed_file_does_not_come_back_empty(self, files, tmp_path):
        """Using the handle of a file that somebody removed is an error that names the file."""
        file = make(files, tmp_path / "gone")
        (tmp_path / "gone").unlink()
        with pytest.raises(StorageError, match="gone"):
            files.write_at(file, 0, b"x")
        assert not (tmp_path / "gone").exists()

    def test_too_many_open_files(self, files, tmp_path):
        """When the process runs out of descriptors, handles give some of theirs back."""
        files.max_open = 1000
        handles = [make(files, tmp_path / str(number), b"x") for number in range(10)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for file in handles[:8]:
            files.read_at(file, 0, 1)
        highest = max(file.descriptor for file in handles)
        filler = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    filler.append(os.open(tmp_path / "0", os.O_RDONLY))
            assert files.read_at(handles[8], 0, 1) == b"x"
            assert files.read_at(handles[9], 0, 1) == b"x"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in filler:
                os.close(descriptor)

    def test_full_disk(self, files, tmp_path):
        """A write that the disk takes only half of is taken back, and the error names the file."""
        file = files.create(tmp_path / "full")
        files.write_at(file, 0, b"x" * 100)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
        try:
            with pytest.raises(StorageError, match="full") as failed:
                files.write_at(file, 100, b"y" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert failed.value.errno == errno.EFBIG
        assert (tmp_path / "full").read_bytes() == b"x" * 100

    def test_short_writes_are_continued(self, files, tmp_path, monkeypatch):
        """A write that the kernel cuts short goes on where it stopped."""
        pwrite = files_module.pwrite
        monkeypatch.setattr(files_module, "pwrite", lambda fd, data, at: pwrite(fd, data[:7], at))
        file = files.create(tmp_path / "a")
        files.write_at(file, 0, b"0123456789" * 5)
        assert (tmp_path / "a").read_bytes() == b"0123456789" * 5

    def test_private_handles(self, files, tmp_path):
        """A worker's own handles do not touch those of the loop."""
        make(files, tmp_path / "a", b"x")
        private = files.private()
        assert private.read_at(private.handle(tmp_path / "a"), 0, 1) == b"x"
        assert (files.open_count, private.open_count) == (0, 1)
        private.close()
        assert private.open_count == 0


class TestFileSlice:
    @pytest.fixture
    def region(self, files, tmp_path):
        file = make(files, tmp_path / "a", bytes(range(200)))
        return files.region(file, 50, 100)

    def test_is_a_file_region(self, region):
        """It is what a response may carry."""
        assert isinstance(region, FileRegion)
        assert region.read() == bytes(range(50, 150))

    def test_send_to_a_socket(self, region):
        """Any part of it can be sent, and never more than the slice has."""
        left, right = socket.socketpair()
        with left, right:
            assert region.send_to(left.fileno(), 10, 90) == 90
            assert receive(right, 90) == bytes(range(60, 150))

    def test_send_without_sendfile(self, region, monkeypatch):
        """Where the kernel does not send files itself, the bytes are read and written."""

        def refuse(*_):
            raise OSError(errno.EINVAL, "no")

        monkeypatch.setattr(os, "sendfile", refuse)
        left, right = socket.socketpair()
        with left, right:
            assert region.send_to(left.fileno(), 0, 100) == 100
            assert receive(right, 100) == bytes(range(50, 150))

    def test_full_socket(self, files, tmp_path):
        """A socket that takes no more raises BlockingIOError, and sending goes on later."""
        content = os.urandom(1 << 20)
        region = files.region(make(files, tmp_path / "big", content), 0, len(content))
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            sent, got = 0, b""
            while sent < len(content):
                try:
                    sent += region.send_to(left.fileno(), sent, len(content) - sent)
                except BlockingIOError:
                    got += receive(right, sent - len(got))
            assert got + receive(right, sent - len(got)) == content

    def test_closed_socket(self, region):
        """A broken connection is the connection's error, not the disk's."""
        left, right = socket.socketpair()
        right.close()
        with left, pytest.raises(BrokenPipeError):
            region.send_to(left.fileno(), 0, 100)

    def test_file_became_shorter(self, region, tmp_path):
        """A slice whose bytes were cut off raises an error that names the file, rather than to send nothing for ever."""
        os.truncate(tmp_path / "a", 100)
        left, right = socket.socketpair()
        with left, right:
            assert region.send_to(left.fileno(), 0, 100) == 50
            with pytest.raises(StorageError, match="ends 50 bytes before"):
                region.send_to(left.fileno(), 50, 50)
        with pytest.raises(StorageError, match="ends 50 bytes before"):
            region.read()

    @pytest.mark.parametrize("is_open", [False, True])
    def test_outlives_the_file(self, files, tmp_path, is_open):
        """A slice of a file that is renamed and deleted is still sent, and then its descriptor is closed."""
        file = make(files, tmp_path / "a", b"content")
        if is_open:
            files.read_at(file, 0, 1)
        region = files.region(file, 0, 7)
        files.detach(file)
        files.rename(tmp_path / "a", tmp_path / "a.deleted")
        files.delete(tmp_path / "a.deleted")
        assert files.open_count == 0
        assert region.read() == b"content"
        descriptor = file.descriptor
        region.release()
        region.release()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)

    def test_dropped_slices_release_their_file(self, files, tmp_path):
        """A slice that nobody released does not pin its file for ever."""
        file = make(files, tmp_path / "a", b"content")
        region = files.region(file, 0, 7)
        assert file.pins == 1
        del region
        assert file.pins == 0

    @linux_only
    def test_what_was_written_is_cached(self, region):
        """Freshly written bytes are found in the page cache."""
        assert region.is_cached()
        assert region.is_cached(10, 20)

    @linux_only
    def test_cold_bytes_and_warming(self, files, tmp_path):
        """Bytes that were dropped from the page cache are found to be missing, and warming brings them back."""
        path = tmp_path / "cold"
        size = 3 << 20
        files.write_file(path, os.urandom(size), sync=True)
        region = files.region(files.handle(path), 0, size)
        drop_from_cache(path)
        if region.is_cached():
            pytest.skip("this file system does not drop pages")
        worker = threading.Thread(target=region.warm)
        worker.start()
        worker.join()
        assert region.is_cached()

    @linux_only
    def test_cold_read(self, files, tmp_path):
        """A read that is not to wait raises ColdRead, whose warming lets it succeed."""
        path = tmp_path / "cold"
        files.write_file(path, b"x" * 20_000, sync=True)
        file = files.handle(path)
        assert files.read_at(file, 0, 10, wait=False) == b"x" * 10
        drop_from_cache(path)
        if files.is_cached(file, 0, 20_000):
            pytest.skip("this file system does not drop pages")
        with pytest.raises(ColdRead, match="cold") as cold:
            files.read_at(file, 0, 20_000, wait=False)
        cold.value.warm()
        assert files.read_at(file, 0, 30_000, wait=False) == b"x" * 20_000
        del cold
        assert file.pins == 0


def drop_from_cache(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


class TestPaths:
    def test_replace_file(self, files, tmp_path):
        """The new content takes the old one's place, and no temporary file stays."""
        path = tmp_path / "checkpoint"
        files.replace_file(path, b"old content")
        files.replace_file(path, b"new")
        assert files.read_file(path) == b"new"
        assert files.list_directory(tmp_path) == ["checkpoint"]

    def test_entries(self, files, tmp_path):
        """A listing has sizes and kinds, sorted by name."""
        files.write_file(tmp_path / "b", b"12345")
        files.make_directory(tmp_path / "a")
        found = files.entries(tmp_path)
        assert [(entry.name, entry.is_directory) for entry in found] == [("a", True), ("b", False)]
        assert found[1].size == files.size(tmp_path / "b") == 5
        assert abs(found[1].modified_ms - (tmp_path / "b").stat().st_mtime * 1000) < 2

    def test_delete(self, files, tmp_path):
        """Deleting says whether there was something to delete."""
        files.write_file(tmp_path / "a", b"")
        assert files.delete(tmp_path / "a")
        assert not files.delete(tmp_path / "a")

    def test_delete_tree(self, files, tmp_path):
        """A directory goes with all that is in it, and once more without complaint."""
        root = tmp_path / "root"
        files.make_directory(root)
        files.make_directory(root / "inner")
        files.write_file(root / "inner" / "a", b"x", sync=True)
        files.delete_tree(root)
        files.delete_tree(root)
        assert not files.exists(root)

    def test_sync(self, files, tmp_path):
        """Files and directories can be synced by path; a missing one is FileNotFoundError."""
        files.write_file(tmp_path / "a", b"x")
        files.sync_file(tmp_path / "a")
        files.sync_directory(tmp_path)
        with pytest.raises(FileNotFoundError):
            files.sync_file(tmp_path / "b")

    def test_sync_of_a_file_system(self, files, tmp_path):
        """All of it is synced at once, and a directory that is not there is named."""
        if not files.can_sync_file_system:
            pytest.skip("the system cannot sync a file system and tell of failures")
        files.write_file(tmp_path / "a", b"x")
        files.sync_file_system(tmp_path)
        with pytest.raises(FileNotFoundError):
            files.sync_file_system(tmp_path / "b")
        lock = files.lock(tmp_path / ".lock")
        files.sync_file_system(tmp_path, lock)
        lock.release()
        with pytest.raises(OSError, match=re.escape(str(tmp_path))):
            files.sync_file_system(tmp_path, lock)

    def test_lock(self, files, tmp_path):
        """A lock excludes others in this process, until it is released."""
        lock = files.lock(tmp_path / ".lock")
        with pytest.raises(BlockingIOError):
            files.lock(tmp_path / ".lock")
        lock.release()
        files.lock(tmp_path / ".lock").release()

    def test_lock_against_another_process(self, files, tmp_path):
        """A lock excludes other processes."""
        lock = files.lock(tmp_path / ".lock")
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            assert pool.apply(try_lock, (tmp_path / ".lock",)) == "locked"
            lock.release()
            assert pool.apply(try_lock, (tmp_path / ".lock",)) == "free"


def try_lock(path):
    try:
        Files().lock(path).release()
    except BlockingIOError:
        return "locked"
    return "free"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names its starts")
def test_a_start_of_the_machine_has_a_name():
    """The same for all processes since then."""
    asked = subprocess.run(
        [sys.executable, "-c", "from barnabas.log.files import Files; print(Files().boot_id())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Files().boot_id() == asked.stdout.strip() != ""
