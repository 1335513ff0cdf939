"""Where processes run: each in a network namespace of its own around a router, or all on the loopback address.

The program itself is the router: `enclosed` starts it again in namespaces of its own (network, mounts, processes), so that nothing of this
is seen outside, needs no name there, and ends with it. What goes from one place to another is forwarded here, where a rule can make it
vanish silently, in one direction or both, as in a network that is cut.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Loopback", "Namespaces", "Net", "Site", "enclosed", "why_not_enclosed"]

INSIDE = "FAULT_MATRIX_INSIDE"
"""Set for the program that runs in namespaces of its own."""

_SUBNET = "10.87.0"
_ROUTER = f"{_SUBNET}.254"

_PROBE = """
set -e
ip link set lo up
ip link add name probe0 type veth peer name probe1
ip rule add iif probe0 to 10.87.0.1 blackhole pref 100
echo 1 > /proc/sys/net/ipv4/ip_forward
"""


class Site(NamedTuple):
    """Where a process runs: its address, and the command that runs a command there."""

    name: str
    host: str
    before: tuple[str, ...]


class Net(Protocol):
    """Sites, and what is cut between them."""

    why_uncut: str
    """Why nothing can be cut; empty where it can."""

    def site(self, name: str) -> Site:
        """A site of its own for a process."""

    def cut(self, sender: str, receiver: str) -> None:
        """From now on nothing arrives that goes from one to the other."""

    def heal(self) -> None:
        """Everything arrives again."""


def _enclosing() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def why_not_enclosed() -> str:
    """Why there can be no namespaces here; empty where there can."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"{tool} is missing (Debian: apt install util-linux iproute2)"
    done = subprocess.run(
        [*_enclosing(), "sh", "-c", _PROBE], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode == 0:
        return ""
    return f"no network namespaces here: {(done.stderr.strip().splitlines() or ['?'])[-1]}"


def enclosed(module: str, arguments: Sequence[str]) -> NoReturn:
    """Goes on as a module of ours in namespaces of its own, which end with it."""
    command = [*_enclosing(), sys.executable, "-m", module, *arguments]
    os.execvpe(command[0], command, {**os.environ, INSIDE: "yes"})


class Loopback:
    """All on one address, and nothing can be cut."""

    def __init__(self, why_uncut: str) -> None:
        self.why_uncut = why_uncut

    def site(self, name: str) -> Site:
        return Site(name, "127.0.0.1", ())

    def cut(self, sender: str, receiver: str) -> None:
        raise AssertionError(f"{sender} cannot be cut from {receiver}: {self.why_uncut}")

    def heal(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        pass


class Namespaces:
    """A namespace for each site, with one cable to the router, which is this process's own namespace."""

    why_uncut = ""

    def __init__(self) -> None:
        self._sites: dict[str, Site] = {}
        self._rules: list[tuple[str, ...]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        _ip("link", "set", "lo", "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        return self

    def __exit__(self, *_) -> None:
        self.heal()
        self._stack.close()

    def site(self, name: str) -> Site:
        if name not in self._sites:
            self._sites[name] = self._made(name, len(self._sites) + 1)
        return self._sites[name]

    def _made(self, name: str, number: int) -> Site:
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo made && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._stack.callback(_end, holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"made\n"
        before = ("nsenter", f"--net=/proc/{holder.pid}/ns/net")
        cable, host = _cable(number), f"{_SUBNET}.{number}"
        _ip("link", "add", "name", cable, "type", "veth", "peer", "name", "cable", "netns", str(holder.pid))
        self._stack.callback(_ip, "link", "delete", cable)
        _ip("addr", "add", f"{_ROUTER}/32", "dev", cable)
        _ip("link", "set", cable, "up")
        _ip("route", "add", host, "dev", cable)
        _ip("addr", "add", f"{host}/32", "dev", "cable", before=before)
        _ip("link", "set", "cable", "up", before=before)
        _ip("route", "add", _ROUTER, "dev", "cable", before=before)
        _ip("route", "add", "default", "via", _ROUTER, before=before)
        return Site(name, host, before)

    def cut(self, sender: str, receiver: str) -> None:
        cable = _cable(list(self._sites).index(sender) + 1)
        rule = ("iif", cable, "to", self._sites[receiver].host, "blackhole", "pref", "100")
        _ip("rule", "add", *rule)
        self._rules.append(rule)

    def heal(self) -> None:
        while self._rules:
            _ip("rule", "delete", *self._rules.pop())


def _cable(number: int) -> str:
    return f"cable{number}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _ip(*arguments: str, before: Iterable[str] = ()) -> None:
    done = subprocess.run([*before, "ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
