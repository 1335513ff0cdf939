"""The loop looks for the next request before it sleeps, as long as that pays."""

from __future__ import annotations

import pytest

from barnabas.network import polling as polling_module
from barnabas.network.polling import SKIPPED_MAX, Polling


class TurnedLoop:
    """Runs what was scheduled when it is told to; each turn takes 10 µs."""

    def __init__(self, monkeypatch):
        self.now_s = 100.0
        self._ready = []
        monkeypatch.setattr(polling_module, "perf_counter", lambda: self.now_s)

    def call_soon(self, callback):
        self._ready.append(callback)

    def turn(self):
        self.now_s += 10e-6
        ready, self._ready = self._ready, []
        for callback in ready:
            callback()
        return bool(ready)

    def turns_until_asleep(self):
        count = 0
        while self.turn():
            count += 1
        return count


@pytest.fixture
def loop(monkeypatch):
    """A loop that is turned by hand."""
    return TurnedLoop(monkeypatch)


def test_looks_for_so_long_after_the_last_answer(loop):
    """Each answer while it looks prolongs the look; then the loop sleeps."""
    polling = Polling(loop, 50)
    polling.after_answers()
    for _ in range(20):
        assert loop.turn()
        assert loop.turn()
        assert polling.is_looking
        polling.after_answers()
    assert loop.turns_until_asleep() in (5, 6)
    assert not polling.is_looking


def test_looks_in_vain_are_seldom_repeated(loop):
    """After one in vain the next answer is not followed by a look, after a second the next three are not, ..."""
    polling = Polling(loop, 50)
    sleeps = []
    for _ in range(10):
        count = 0
        polling.after_answers()
        while not polling.is_looking:
            assert loop.turns_until_asleep() == 0
            count += 1
            polling.after_answers()
        loop.turns_until_asleep()
        sleeps.append(count)
    assert sleeps == [0, 1, 3, 7, 15, 31, 63, 127, SKIPPED_MAX, SKIPPED_MAX]


def test_one_success_makes_it_look_each_time_again(loop):
    """A client that sends its next request at once is noticed at the next look."""
    polling = Polling(loop, 50)
    for _ in range(50):
        polling.after_answers()
        loop.turns_until_asleep()
    while not polling.is_looking:
        polling.after_answers()
    polling.after_answers()
    loop.turns_until_asleep()
    polling.after_answers()
    assert not polling.is_looking  # one look in vain at the end
    polling.after_answers()
    assert polling.is_looking


def test_zero_turns_it_off(loop):
    """With `barnabas.poll.us=0` the loop sleeps at once; a change counts from the next answer on."""
    polling = Polling(loop, 0)
    polling.after_answers()
    assert not polling.is_looking
    polling.configure(50)
    polling.after_answers()
    assert polling.is_looking
    polling.configure(0)
    polling.after_answers()
    loop.turns_until_asleep()
    polling.after_answers()
    polling.after_answers()
    assert not polling.is_looking
