"""A disk whose power may fail: what was synced stays, of the rest any part may.

`FailingPowerFiles` works on real files below `root`, which stand for the page cache, and keeps book of what fsync was
called for. `image(target, chance)` writes down what could be on the disk if the power failed now:

    file content   the synced bytes; of what was written since, any sectors, with zeros in between, at any length
    directories    the synced entries, and of the changes since (create, rename, delete) as many as had gone out, in order

`copy(target)` writes down what is there if only the process dies now. What was not synced by then is still not, so that the
power may fail in a later life and take it.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

from barnabas.log.files import Files

__all__ = ["Disk", "FailingPowerFiles"]

SECTOR_BYTES = 64
"""Far smaller than real ones, so that small batches are torn, too."""


class Inode:
    """A file: the content that is safe."""

    def __init__(self, synced: bytes = b"") -> None:
        self.synced = synced


class Directory:
    """A directory: its entries, those that are safe, and what has changed since."""

    def __init__(self) -> None:
        self.current: dict[str, Inode | Directory] = {}
        self.safe: dict[str, Inode | Directory] = {}
        self.changes: list[tuple[str | None, str | None, Inode | Directory | None]] = []

    def change(self, removed: str | None, added: str | None, node: Inode | Directory | None) -> None:
        _apply(self.current, removed, added, node)
        self.changes.append((removed, added, node))

    def sync(self) -> None:
        self.safe = dict(self.current)
        self.changes.clear()


def _apply(entries, removed, added, node) -> None:
    if removed is not None:
        entries.pop(removed, None)
    if added is not None:
        entries[added] = node


class Disk:
    """What `FailingPowerFiles` of one file system share.

    `on_moment` is called before and after every change and every sync: the power may fail there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.RLock()
        self.tree = Directory()
        self.inodes: dict[int, Inode] = {}
        self.on_moment = lambda: None
        self.before_sync = lambda: None
        self.boot_id = str(root)  # a failure of power is followed by another disk
        self._adopt(self.tree, root)

    def _adopt(self, directory: Directory, path: Path) -> None:
        for child in path.iterdir():
            if child.is_dir():
                node = Directory()
                self._adopt(node, child)
            else:
                node = self.inodes[child.stat().st_ino] = Inode(child.read_bytes())
            directory.current[child.name] = node
        directory.sync()

    def node(self, path: Path) -> Inode | Directory | None:
        node: Inode | Directory | None = self.tree
        for part in path.relative_to(self.root).parts:
            node = node.current.get(part) if isinstance(node, Directory) else None
        return node

    def directory(self, path: Path) -> Directory:
        node = self.node(path)
        assert isinstance(node, Directory), path
        return node

    def created(self, path: Path) -> None:
        if self.node(path) is None:
            node = self.inodes[path.stat().st_ino] = Inode()
            self.directory(path.parent).change(None, path.name, node)

    def copy(self, target: Path) -> Disk:
        """Copies all of it to `target`, with the book."""
        with self.lock:
            shutil.copytree(self.root, target)
            other = Disk(target)
            other.boot_id = self.boot_id
            counterparts: dict[Inode | Directory, Inode | Directory] = {}
            _pair(self.tree, other.tree, counterparts)
            for node, counterpart in list(counterparts.items()):
                _take_over(node, counterpart, counterparts)
            return other

    def image(self, target: Path, chance) -> None:
        """Writes what a power failure leaves into `target`; `chance` is a `random.Random`."""
        with self.lock:
            self._image(self.tree, self.root, target, chance, self._contents(self.tree, self.root))

    def _contents(self, directory: Directory, path: Path) -> dict[Inode, bytes]:
        contents: dict[Inode, bytes] = {}
        for name, node in directory.current.items():
            if isinstance(node, Directory):
                contents.update(self._contents(node, path / name))
            else:
                contents[node] = (path / name).read_bytes()
        return contents

    def _image(self, directory: Directory, path: Path, target: Path, chance, contents) -> None:
        target.mkdir()
        entries = dict(directory.safe)
        for change in directory.changes[: _some(chance, len(directory.changes))]:
            _apply(entries, *change)
        for name, node in entries.items():
            if isinstance(node, Directory):
                self._image(node, path / name, target / name, chance, contents)
            else:
                content = _torn(node.synced, contents.get(node, node.synced), chance)
                (target / name).write_bytes(content)


def _pair(node, counterpart, counterparts) -> None:
    counterparts[node] = counterpart
    if isinstance(node, Directory):
        assert node.current.keys() == counterpart.current.keys()
        for name, child in node.current.items():
            _pair(child, counterpart.current[name], counterparts)


def _take_over(node, counterpart, counterparts) -> None:
    def find(other):
        if other is not None and other not in counterparts:  # deleted, but not yet for good
            counterparts[other] = type(other)()
            _take_over(other, counterparts[other], counterparts)
        return counterparts.get(other)

    if isinstance(node, Inode):
        counterpart.synced = node.synced
        return
    counterpart.current = {name: find(child) for name, child in node.current.items()}
    counterpart.safe = {name: find(child) for name, child in node.safe.items()}
    counterpart.changes = [(removed, added, find(child)) for removed, added, child in node.changes]


def _some(chance, count: int) -> int:
    """None, all, or as many as may be."""
    return chance.choice((0, count, chance.randint(0, count)))


def _torn(old: bytes, new: bytes, chance) -> bytes:
    kind = chance.randrange(4)
    if old == new or kind == 0:
        return old
    if kind == 1:
        return new
    shorter, longer = sorted((len(old), len(new)))
    size = shorter + _some(chance, longer - shorter)
    old, new = old[:size].ljust(size, b"\0"), new[:size].ljust(size, b"\0")
    if kind == 2:
        return new
    sectors = [chance.choice((old, new))[at : at + SECTOR_BYTES] for at in range(0, size, SECTOR_BYTES)]
    return b"".join(sectors)


class FailingPowerFiles(Files):
    """Files on a `Disk`. Nothing is really synced: the machine that runs the test is not to fail."""

    def __init__(self, disk: Disk, max_open: int = 100) -> None:
        super().__init__(max_open)
        self.disk = disk

    def boot_id(self):
        return self.disk.boot_id

    def private(self):
        return FailingPowerFiles(self.disk, 8)

    def _changing(self):
        return _Change(self.disk)

    # ----- by handle

    def create(self, path):
        path = Path(path)
        with self._changing():
            file = super().create(path)
            self.disk.created(path)
            return file

    def write_at(self, file, position, data, size=None):
        with self._changing():
            super().write_at(file, position, data, size)

    def truncate(self, file, size):
        with self._changing():
            super().truncate(file, size)

    def sync(self, file):
        self.disk.before_sync()
        with self._changing():
            descriptor = self.open_handle(file)
            status = os.fstat(descriptor)
            self.disk.inodes[status.st_ino].synced = os.pread(descriptor, status.st_size, 0)

    # ----- by path

    def make_directory(self, path):
        with self._changing():
            super().make_directory(path)
            self.disk.directory(path.parent).change(None, path.name, Directory())

    def write_file(self, path, data, *, sync=False):
        with self._changing():
            super().write_file(path, data)
            self.disk.created(path)
        if sync:
            self._sync_path(path)

    def replace_file(self, path, data, *, sync=True):
        temporary = path.with_name(path.name + ".tmp")
        self.write_file(temporary, data, sync=sync)
        self.rename(temporary, path)
        if sync:
            self.sync_directory(path.parent)

    def rename(self, source, target):
        with self._changing():
            super().rename(source, target)
            assert source.parent == target.parent
            node = self.disk.node(source)
            assert node is not None, source
            self.disk.directory(source.parent).change(source.name, target.name, node)

    def delete(self, path):
        with self._changing():
            found = super().delete(path)
            if found:
                self.disk.directory(path.parent).change(path.name, None, None)
            return found

    def delete_tree(self, path):
        with self._changing():
            super().delete_tree(path)
            if isinstance(self.disk.node(path), Directory):
                self.disk.directory(path.parent).change(path.name, None, None)

    def sync_file(self, path):
        self.disk.before_sync()
        self._sync_path(path)

    def _sync_path(self, path):
        with self._changing():
            content = path.read_bytes()
            node = self.disk.node(path)
            assert isinstance(node, Inode), path
            node.synced = content

    def sync_directory(self, path):
        self.disk.before_sync()
        with self._changing():
            if path != self.disk.root.parent:
                self.disk.directory(path).sync()

    can_sync_file_system = True

    def sync_file_system(self, path, since=None):
        self.disk.before_sync()
        with self._changing():
            self._sync_all(self.disk.tree, self.disk.root)

    def _sync_all(self, directory, path):
        directory.sync()
        for name, node in directory.current.items():
            if isinstance(node, Directory):
                self._sync_all(node, path / name)
            else:
                node.synced = (path / name).read_bytes()

    def lock(self, path):
        with self.disk.lock:
            lock = super().lock(path)
            self.disk.created(path)
            return lock


class _Change:
    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def __enter__(self) -> None:
        self.disk.lock.acquire()
        self.disk.on_moment()

    def __exit__(self, *_) -> None:
        try:
            self.disk.on_moment()
        finally:
            self.disk.lock.release()
