"""What goes wrong in a simulated cluster, and when: decided by the seed."""

from __future__ import annotations

import asyncio

from tests.simulation.store import HOST

__all__ = ["Faults"]


class Faults:
    """Breaks things for a while and mends them again."""

    def __init__(self, world, clients):
        self.world = world
        self.chance = world.chance
        self.names = [host.name for host in world.hosts.values()]
        self.clients = [client.name for client in clients]
        self.haste = world.temper.haste
        self.count = 0
        self.under_way = 0  # faults that are not mended yet
        self.kinds = (
            [self.kill] * 4
            + [self.lose_power] * 3
            + [self.stop] * 2
            + [self.pause] * 3
            + [self.isolate] * 3
            + [self.cut_one_way] * 3
            + [self.cut_from_store] * 2
            + [self.stop_store]
            + [self.slow_disk]
            + [self.full_disk]
            + [self.skew_clock]
            + [self.black_out] * 2 * world.temper.syncs_always
        )

    async def work(self, seconds):
        """Faults until the time is up; some last beyond."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + seconds
        while loop.time() < until_s:
            await asyncio.sleep((0.2 + 4 * self.chance.random() ** 2) / self.haste)
            if not self._is_fragile():
                self.count += 1
                await self.chance.choice(self.kinds)()

    def _is_fragile(self):
        """Whether any fault now may lose something, with nobody to blame.

        Who lost power may have lost what he had not synced. Until he is known to lag, others must stay in sync beside him: without
        eligible leader replicas the last one in sync leads, whatever he has lost.
        """
        return self.world.temper.is_fragile and self.world.ledger.has_doubts

    def mend(self):
        """Everything is whole again, and every broker is up or starting."""
        self.world.network.heal()
        self.world.ensemble.is_down = False
        for host in self.world.hosts.values():
            host.disk.is_full = False
            if host.node is None:
                host.start()
            else:
                host.node.slowness = 1.0
                if host.node.is_paused:
                    self.world.loop.resume(host.node)

    def _some_host(self):
        hosts = [host for host in self.world.hosts.values() if host.serves and not host.node.is_paused]
        return self.chance.choice(hosts) if hosts else None

    def _later(self, low_s, high_s, callback, *arguments):
        delay_s = low_s * (high_s / low_s) ** self.chance.random() / self.haste
        self.under_way += 1
        self.world.loop.call_later(delay_s, self._end, callback, arguments)

    def _end(self, callback, arguments):
        self.under_way -= 1
        callback(*arguments)

    # ----- processes

    async def kill(self):
        """Not while a replica lacks what its disk lost: nobody can tell from outside that this one lost nothing."""
        host = self._some_host()
        if host is not None and not self.world.ledger.has_doubts:
            host.crash(loses_power=False)
            self._later(0.1, 10.0, self._restart, host)

    async def lose_power(self):
        """Only where others hold all, or everything is synced: nobody promises more than one copy that was not."""
        host = self._some_host()
        if host is None or not self.world.ledger.can_lose_power(host.node_id):
            return
        temper = self.world.temper
        if temper.is_fragile and not temper.syncs_always and (self.under_way or not self._is_whole()):
            return
        host.crash(loses_power=True)
        self._later(0.1, 10.0, self._restart, host)

    async def black_out(self):
        """The whole place loses its power."""
        for host in self.world.hosts.values():
            if host.serves:
                host.crash(loses_power=True)
                self._later(0.1, 10.0, self._restart, host)

    def _is_whole(self):
        """Whether everybody serves and is in sync."""
        return all(host.serves and not host.node.is_paused for host in self.world.hosts.values()) and all(
            len(partition.isr) == len(partition.replicas)
            for topic in self.world.ledger.image.topics.values()
            for partition in topic.partitions
        )

    async def stop(self):
        host = self._some_host()
        if host is not None:
            host.stop()
            self._later(2.0, 15.0, self._restart, host)

    def _restart(self, host):
        if host.node is None:
            host.start()
        elif host.broker is None:
            self._later(0.5, 0.5, self._restart, host)

    async def pause(self):
        host = self._some_host()
        if host is not None:
            self.world.trace("%s is paused", host.name)
            node = host.node
            self.world.loop.pause(node)
            self._later(0.2, 15.0, self._resume, host, node)

    def _resume(self, host, node):
        if host.node is node and node.is_paused:
            self.world.trace("%s goes on", host.name)
            self.world.loop.resume(node)

    # ----- the network

    def _cut(self, pairs, low_s=0.2, high_s=15.0):
        self.world.trace("cut %s", ", ".join(f"{source}>{target}" for source, target in pairs))
        for source, target in pairs:
            self.world.network.cut(source, target)
        self._later(low_s, high_s, self._heal, pairs)

    def _heal(self, pairs):
        self.world.trace("healed %s", ", ".join(f"{source}>{target}" for source, target in pairs))
        for source, target in pairs:
            self.world.network.heal(source, target)

    async def isolate(self):
        name = self.chance.choice(self.names)
        others = [each for each in self.names if each != name]
        if self.chance.random() < 0.5:
            others.append(HOST)
        if self.chance.random() < 0.5:
            others += self.clients
        self._cut([(name, other) for other in others] + [(other, name) for other in others])

    async def cut_one_way(self):
        source, target = self.chance.sample([*self.names, *self.clients], 2)
        self._cut([(source, target)])

    async def cut_from_store(self):
        name = self.chance.choice(self.names)
        pairs = [(name, HOST), (HOST, name)]
        self._cut(self.chance.choice([pairs, pairs[:1], pairs[1:]]))

    # ----- the store, disks, clocks

    async def stop_store(self):
        if not self.world.ensemble.is_down:
            self.world.trace("the store is out of reach")
            self.world.ensemble.is_down = True
            self._later(0.5, 20.0, self._start_store)

    def _start_store(self):
        self.world.trace("the store is back")
        self.world.ensemble.is_down = False

    async def slow_disk(self):
        host = self._some_host()
        if host is not None:
            self.world.trace("the disk of %s is slow", host.name)
            node = host.node
            node.slowness = 200.0
            self._later(0.5, 5.0, setattr, node, "slowness", 1.0)

    async def full_disk(self):
        host = self._some_host()
        if host is not None:
            self.world.trace("the disk of %s is full", host.name)
            disk = host.disk
            disk.is_full = True
            self._later(0.5, 5.0, setattr, disk, "is_full", False)

    async def skew_clock(self):
        host = self.chance.choice(list(self.world.hosts.values()))
        host.clock.skew_ms = self.chance.choice([0, self.chance.randint(-60_000, 60_000)])
        self.world.trace("the clock of %s is wrong by %d ms", host.name, host.clock.skew_ms)
