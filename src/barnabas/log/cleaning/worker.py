"""Where a cleaning pass runs.

Compaction looks at every record, so that it computes for long. In a thread it would compete with the event loop for the
interpreter: each system call of the loop gives the interpreter away, and getting it back takes up to five milliseconds. So a pass
runs in a process of its own, at a lower priority, which is started when there is something to clean and ends when there is not.
It reads segments and writes `.cleaned` files, and nothing else: the broker puts them in place.

    InlineWorker    runs in the thread that calls it: for tests, and where no process can be started
    ProcessWorker   hands the task to the process and waits for the answer, which leaves the interpreter to others

The process ends at once when the broker does, however that ends: its standard input is closed then. Messages are a length (4 bytes,
big-endian) and so many bytes of `marshal`; both ends are the same program.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from barnabas.errors import DecodeError, DiskFullError, StorageError
from barnabas.log.cleaning.tasks import Clean, Cleaned, Index, Indexed, Source

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from barnabas.log.cleaning.cleaner import CleaningPass
    from barnabas.log.files import Files

__all__ = ["InlineWorker", "ProcessWorker", "Worker", "WorkerFailedError", "WorkerLostError", "main"]

_LENGTH = struct.Struct(">I")
_NICENESS = 5
_END_TIMEOUT_S = 5

_INDEX, _CLEAN = 0, 1
_DONE, _DAMAGED, _DISK_FULL, _DISK_FAILED, _FAILED = range(5)


class WorkerFailedError(Exception):
    """A pass failed for a reason that is neither the disk nor damaged data; the message says which."""


class WorkerLostError(Exception):
    """The process that ran the pass is gone: killed, or for want of memory."""


class Worker(Protocol):
    """Runs one pass after another: `index`, then `clean` as often as there are groups. Calls block: they are for a thread."""

    def index(self, task: Index) -> Indexed:
        """Begins a pass. Raises DecodeError, OSError, WorkerFailedError, WorkerLostError."""

    def clean(self, task: Clean) -> Cleaned:
        """Goes on with it. Raises as `index`."""

    def rest(self) -> None:
        """Gives back what it holds; the next task makes it begin anew. Also ends a call under way, from another thread."""


class InlineWorker:
    """A worker in the thread that calls it.

    Args:
        files: the disk.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._pass: CleaningPass | None = None

    def index(self, task: Index) -> Indexed:
        """As `Worker.index`."""
        from barnabas.log.cleaning.cleaner import CleaningPass

        self._pass = CleaningPass(self._files, task)
        return self._pass.index(task)

    def clean(self, task: Clean) -> Cleaned:
        """As `Worker.clean`."""
        assert self._pass is not None
        return self._pass.clean(task)

    def rest(self) -> None:
        """Forgets the keys."""
        self._pass = None


class ProcessWorker:
    """A worker in a process of its own."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def index(self, task: Index) -> Indexed:
        """As `Worker.index`."""
        return Indexed(*self._call(_INDEX, task))

    def clean(self, task: Clean) -> Cleaned:
        """As `Worker.clean`."""
        return Cleaned(*self._call(_CLEAN, task))

    @property
    def process_id(self) -> int | None:
        """The process, if there is one now."""
        process = self._process
        return None if process is None else process.pid

    def _call(self, kind: int, task: Index | Clean) -> tuple[Any, ...]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, (kind, _plain(task)))
            answer = _receive(process.stdout)
        except (OSError, ValueError):
            answer = None
        if answer is None:
            self.rest()
            raise WorkerLostError(f"the cleaning process ended unexpectedly (status {process.returncode})")
        status, content = answer
        if status == _DONE:
            return tuple(content)
        if status == _DAMAGED:
            raise DecodeError(content)
        if status in (_DISK_FULL, _DISK_FAILED):
            number, message = content
            failure = DiskFullError(message) if status == _DISK_FULL else StorageError(message)
            failure.errno = number
            raise failure
        raise WorkerFailedError(content)

    def _started(self) -> subprocess.Popen[bytes]:
        # Here, since the process itself needs none.
        import subprocess

        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", "from barnabas.log.cleaning.worker import main; main()"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            return self._process

    def rest(self) -> None:
        """Ends the process."""
        import subprocess

        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_TIMEOUT_S)
            process.stdout.close()


def _plain(task: Index | Clean) -> tuple[Any, ...]:
    """The task in types that `marshal` knows."""
    return tuple([tuple(each) for each in field] if isinstance(field, list) else field for field in task)


def _send(stream: BinaryIO | Any, message: tuple[Any, ...]) -> None:
    data = marshal.dumps(message)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> Any:
    """The next message, None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    size = _LENGTH.unpack(head)[0]
    data = stream.read(size)
    return marshal.loads(data) if len(data) == size else None  # noqa: S302 - of this very program


# ----- in the process


def main() -> None:
    """Runs tasks from standard input until it ends; then the process ends, whatever it is doing."""
    import signal
    from queue import SimpleQueue

    from barnabas.log.files import Files

    # Ctrl-C goes to the whole group of processes; the broker says when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(AttributeError, OSError):
        os.nice(_NICENESS)
    messages: SimpleQueue[Any] = SimpleQueue()

    def read() -> None:
        while (message := _receive(sys.stdin.buffer)) is not None:
            messages.put(message)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    worker = InlineWorker(Files())
    while True:
        kind, fields = messages.get()
        _send(sys.stdout.buffer, _answer(worker, kind, fields))


def _answer(worker: InlineWorker, kind: int, fields: tuple[Any, ...]) -> tuple[int, Any]:
    try:
        if kind == _INDEX:
            return _DONE, tuple(worker.index(_rebuilt(Index, fields)))
        return _DONE, tuple(worker.clean(_rebuilt(Clean, fields)))
    except DecodeError as error:
        return _DAMAGED, str(error)
    except OSError as error:
        is_full = isinstance(error, DiskFullError)
        return _DISK_FULL if is_full else _DISK_FAILED, (error.errno or 0, str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the broker is to hear of it
        return _FAILED, f"{type(error).__name__}: {error}"


def _rebuilt(kind: Callable[..., Any], fields: tuple[Any, ...]) -> Any:
    task = kind(*fields)
    return task._replace(sources=[Source(*each) for each in task.sources])
