"""The wire between a node and ZooKeeper, which can be cut, and can lose answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Wire:
    """Passes bytes on between a port of its own and ZooKeeper's.

    `mute()` lets requests through and loses the answers; `cut()` ends all connections and takes no new ones; `mend()` ends both.
    `swallow(count)` takes so many new connections, and answers nothing on them.
    """

    def __init__(self, port):
        self._port = port
        self._server = None
        self._writers = set()
        self._tasks = set()
        self._is_mute = False
        self._is_cut = False
        self.lost_bytes = 0
        self.to_swallow = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self.cut()
        self._server.close()
        while self._tasks:
            self.drop()
            await asyncio.wait(list(self._tasks), timeout=0.1)

    @property
    def address(self):
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def mute(self):
        self._is_mute = True
        self.lost_bytes = 0

    def cut(self):
        self._is_cut = True
        self.drop()

    def drop(self):
        """Ends all connections; new ones are taken."""
        for writer in self._writers:
            writer.transport.abort()

    def swallow(self, count):
        self.to_swallow = count

    def mend(self):
        """New connections work; those that lost something are ended."""
        if self._is_mute:
            self.drop()
        self._is_mute = self._is_cut = False

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            if self._is_cut or self._is_mute:
                writer.transport.abort()
                return
            if self.to_swallow:
                self.to_swallow -= 1
                self._writers.add(writer)
                with suppress(OSError):
                    while await reader.read(65536):
                        pass
                return
            try:
                back, forth = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                writer.transport.abort()
                return
            self._writers |= {writer, forth}
            with suppress(OSError):
                await asyncio.gather(
                    self._pass(reader, forth, answers=False), self._pass(back, writer, answers=True)
                )
        finally:
            self._tasks.discard(task)

    async def _pass(self, reader, writer, *, answers):
        try:
            while part := await reader.read(65536):
                if answers and self._is_mute:
                    self.lost_bytes += len(part)
                else:
                    writer.write(part)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()
