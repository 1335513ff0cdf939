"""Maps that share what has not changed, beside plain dicts."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from barnabas.metadata.shared_map import GONE, SharedMap, with_changes


@pytest.mark.parametrize("seed", range(20))
def test_it_holds_what_a_dict_would(seed):
    """Whatever is put in, replaced and taken away, and every earlier map stays as it was."""
    chance = random.Random(seed)
    size = chance.choice((0, 10, 1001, 3000))
    model = {f"topic-{number}": number for number in range(size)}
    current = dict(model)
    kept = []
    kinds = set()
    for step in range(200):
        changes = {}
        for _ in range(chance.choice((0, 1, 1, 5, 60))):
            key = f"topic-{chance.randrange(size + 50)}"
            changes[key] = GONE if chance.random() < 0.3 else step + 1
        kept.append((current, dict(model)))
        current = with_changes(current, changes)
        kinds.add(type(current))
        for key, value in changes.items():
            if value is GONE:
                model.pop(key, None)
            else:
                model[key] = value
        key = f"topic-{chance.randrange(size + 60)}"
        assert current.get(key) == model.get(key)
        assert current.get(key, "none") == model.get(key, "none")
        assert (key in current) == (key in model)
        if key in model:
            assert current[key] == model[key]
        else:
            with pytest.raises(KeyError):
                current[key]
    for shared, plain in chance.sample(kept, 30):
        assert len(shared) == len(plain)
        assert dict(shared.items()) == plain
        assert set(shared) == set(plain)
    assert kinds == ({dict, SharedMap} if size > 1000 else {dict})


def test_what_is_changed_keeps_its_place():
    """The order is that of a dict, so that all who look at all topics see them in the same one."""
    before = dict.fromkeys(range(2000), "old")
    after = with_changes(before, {1000: "new", 5000: "last", 3: GONE})
    assert isinstance(after, SharedMap)
    assert list(after) == [*(number for number in range(2000) if number != 3), 5000]
    assert 3 not in after


def test_a_change_of_many_costs_little():
    """A hundred thousand topics, a thousand changes: copies of all would take 5 GB one after the other."""
    topics = {str(number): number for number in range(100_000)}
    current = topics
    taken_bytes = 0
    tracemalloc.start(1)
    try:
        for number in range(1, 1001):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            current = with_changes(current, {str(number): -number})
            taken_bytes += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert taken_bytes < 100 << 20
    assert current["1000"] == -1000
    assert topics["1000"] == 1000
