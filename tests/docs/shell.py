"""A shell in which the commands of a page are run as somebody would type them, with a broker port of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.broker_process import wait_until
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Shell"]

_DEADLINE_S = 120


class Shell:
    """Bash in `directory`; `localhost:9092` in what it is told stands for a port of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_ports(1)[0]
        ours = ("BARNABAS_", "PYTHON")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
            "BARNABAS_LISTENERS": f"PLAINTEXT://localhost:{self.port}",
            "BARNABAS_BOOTSTRAP_SERVER": f"localhost:{self.port}",
        }
        self._lines: list[str] = []
        self._commands = 0
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="shell", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.append(line.rstrip("\n"))

    def save(self, name: str, text: str) -> None:
        """Write a file."""
        (self.directory / name).write_text(self._here(text))

    def run(self, command: str, shown: Sequence[str] = ()) -> list[str]:
        """Types a command, waits for its end (not for that of a job in the background) and for the lines it shows.

        `...` in a line stands for anything; other lines may come between. Gives all lines since the command.
        """
        self._commands += 1
        since = len(self._lines)
        end = re.compile(rf"^<end {self._commands}: (\d+)>$")
        self._process.stdin.write(f'{self._here(command)}\necho "<end {self._commands}: $?>"\n')
        self._process.stdin.flush()
        patterns = [re.compile(".*".join(map(re.escape, self._here(line).split("...")))) for line in shown]

        def lines() -> list[str]:
            return self._lines[since:]

        def missing() -> list[str]:
            return [pattern.pattern for pattern in patterns if not any(map(pattern.fullmatch, lines()))]

        try:
            wait_until(lambda: any(map(end.match, lines())) and not missing(), _DEADLINE_S, command)
        except AssertionError as error:
            raise AssertionError(f"{error}; missing: {missing()}; shown: {lines()}") from None
        (status,) = (found[1] for line in lines() if (found := end.match(line)))
        assert status == "0", f"{command} ended with {status}: {lines()}"
        return [line for line in lines() if not line.startswith("<end ")]

    def _here(self, text: str) -> str:
        return text.replace("localhost:9092", f"localhost:{self.port}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        # The shell and all its jobs are a session of their own.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(10)
        self._process.stdout.close()
