"""Apache ZooKeeper as a process of this machine: for `barnabas cluster up`, and for tests.

Its jars come from `BARNABAS_ZOOKEEPER_JARS` if that is set, else from an installed ZooKeeper (`ZOOKEEPER_HOME`, or Debian's package),
else from Maven Central, by Maven, once. Java is needed in any case.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["JARS_VARIABLE", "VERSION", "Peer", "ZooKeeperMissingError", "ZooKeeperServer", "find_jars"]

JARS_VARIABLE = "BARNABAS_ZOOKEEPER_JARS"
"""Names a directory with the jars."""

VERSION = "3.9.4"
"""The version that is fetched."""

_POM = f"""<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>barnabas</groupId>
  <artifactId>zookeeper</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>io.dropwizard.metrics</groupId><artifactId>metrics-core</artifactId><version>4.1.12.1</version></dependency>
    <dependency><groupId>org.xerial.snappy</groupId><artifactId>snappy-java</artifactId><version>1.1.10.5</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>2.0.13</version></dependency>
  </dependencies>
</project>
"""

_DEBIAN_JARS = Path("/usr/share/java")
_START_DEADLINE_S = 60.0
_STOP_DEADLINE_S = 10.0


class ZooKeeperMissingError(RuntimeError):
    """ZooKeeper cannot be had on this machine; the message says why, and what to do."""


def find_jars(cache: Path) -> str:
    """The class path of ZooKeeper.

    Args:
        cache: Where jars are kept that have to be fetched.

    Raises:
        ZooKeeperMissingError: Java or the jars are missing.
    """
    if shutil.which("java") is None:
        raise ZooKeeperMissingError("java is missing (Debian: apt install default-jre-headless)")
    override = os.environ.get(JARS_VARIABLE)
    if override:
        if not any(Path(override).glob("zookeeper-*.jar")):
            raise ZooKeeperMissingError(f"{JARS_VARIABLE}={override} has no zookeeper jar")
        return f"{override}/*"
    home = os.environ.get("ZOOKEEPER_HOME")
    if home and any(Path(home, "lib").glob("zookeeper-*.jar")):
        return f"{home}/lib/*"
    if (_DEBIAN_JARS / "zookeeper.jar").exists():
        return ":".join(
            str(_DEBIAN_JARS / f"{name}.jar")
            for name in (
                "zookeeper",
                "zookeeper-jute",
                "netty-all",
                "slf4j-api",
                "metrics-core",
                "snappy-java",
            )
        )
    libs = cache / f"zookeeper-{VERSION}"
    if not libs.is_dir():
        _fetch(libs)
    return f"{libs}/*"


def _fetch(libs: Path) -> None:
    if shutil.which("mvn") is None:
        raise ZooKeeperMissingError(
            "ZooKeeper is missing: set ZOOKEEPER_HOME to an unpacked download, or install Maven to have it fetched "
            "(Debian: apt install maven)"
        )
    libs.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, so that two that fetch at once do not disturb each other, and half a fetch is none.
    partial = libs.with_name(f"{libs.name}.{os.getpid()}")
    partial.mkdir(exist_ok=True)
    try:
        pom = partial / "pom.xml"
        pom.write_text(_POM)
        done = subprocess.run(  # noqa: S603 - our own words
            [  # noqa: S607 - whichever Maven is on the PATH
                "mvn",
                "-q",
                "-B",
                "-f",
                str(pom),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={partial}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ZooKeeperMissingError(f"mvn could not fetch ZooKeeper:\n{done.stdout}\n{done.stderr}")
        try:
            partial.rename(libs)
        except OSError:
            if not libs.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Peer(NamedTuple):
    """A member of an ensemble, as all members have to know it: its id, and where they talk to each other."""

    server_id: int
    quorum_port: int
    election_port: int
    host: str = "127.0.0.1"


class ZooKeeperServer:
    """A server with its data in `directory`.

    Args:
        directory: Settings, data and log; made when it is missing.
        jars: The class path.
        port: Where clients find it.
        server_id: Its number in the ensemble.
        ensemble: All members; none for a server that stands alone.
        tick_ms: ZooKeeper's unit of time: sessions are from 2 to 20 ticks long.
        settings: More lines of `zoo.cfg`.
        java: More options of the virtual machine.
        host: The address that it listens at.
        before: A command that runs the command that follows it, such as one that enters a namespace.
    """

    def __init__(
        self,
        directory: Path,
        *,
        jars: str,
        port: int,
        server_id: int = 1,
        ensemble: Sequence[Peer] = (),
        tick_ms: int = 500,
        settings: Mapping[str, str] | None = None,
        java: Sequence[str] = (),
        host: str = "127.0.0.1",
        before: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.port = port
        self.server_id = server_id
        self.ensemble = tuple(ensemble)
        self.log_path = directory / "zookeeper.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._jars = jars
        self._tick_ms = tick_ms
        self._settings = dict(settings or {})
        self._java = tuple(java)
        self.host = host
        self._before = tuple(before)

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"{self.host}:{self.port}"

    def launch(self) -> None:
        """Starts it, and does not wait."""
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        lines = {
            "tickTime": str(self._tick_ms),
            "dataDir": str(data),
            "clientPort": str(self.port),
            "clientPortAddress": self.host,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
            "autopurge.purgeInterval": "1",
        }
        if self.ensemble:
            (data / "myid").write_text(str(self.server_id))
            lines |= {"initLimit": "20", "syncLimit": "10"}
            lines |= {
                f"server.{peer.server_id}": f"{peer.host}:{peer.quorum_port}:{peer.election_port}"
                for peer in self.ensemble
            }
        lines |= self._settings
        config = self.directory / "zoo.cfg"
        config.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own words
                [
                    *self._before,
                    "java",
                    *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m"),
                    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                    *self._java,
                    *("-cp", self._jars, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C is for whoever started it, who then stops it in order.
                start_new_session=True,
            )

    def wait(self, deadline_s: float = _START_DEADLINE_S) -> None:
        """Waits until it serves.

        Raises:
            ZooKeeperMissingError: It ended, or takes too long; with the end of its log.
        """
        end = time.monotonic() + deadline_s
        while not self.serves():
            if self.process is None or self.process.poll() is not None or time.monotonic() > end:
                log = self.log_path.read_bytes()[-3000:].decode(errors="replace")
                raise ZooKeeperMissingError(f"ZooKeeper does not start ({self.log_path}):\n{log}")
            time.sleep(0.05)

    def start(self) -> None:
        """Starts it and waits until it serves."""
        self.launch()
        self.wait()

    def serves(self) -> bool:
        """Whether it answers, and has found its ensemble."""
        return b"Mode:" in self.ask("srvr")

    def ask(self, word: str) -> bytes:
        """The answer to one of ZooKeeper's four-letter words; empty when there is none."""
        try:
            with socket.create_connection((self.host, self.port), timeout=2) as connection:
                connection.sendall(word.encode())
                answer = b""
                while part := connection.recv(65536):
                    answer += part
                return answer
        except OSError:
            return b""

    def stop(self) -> None:
        """Ends it in order."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(_STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """SIGSTOP: it is there, and says nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
