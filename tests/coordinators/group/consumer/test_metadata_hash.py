"""The number by which groups notice changed topics is Kafka's own."""

import pytest

from barnabas.coordinators.group.consumer.metadata_hash import group_hash, topic_hash, xxh3_64


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 3244421341483603138),
        (1, 15874345324738025261),
        (2, 14186528474905861181),
        (3, 15460376305270860646),
        (4, 12213060506185544475),
        (5, 16111842843506866066),
        (8, 16072452712488031512),
        (9, 13649579840224678564),
        (15, 9343430019797237359),
        (16, 14339534050746707784),
        (17, 2581739760586466705),
        (31, 1875055138305222226),
        (32, 16790989001956059265),
        (33, 5942761734958512492),
        (64, 4120963551310073932),
        (65, 17345512415434654503),
        (96, 1920183868384168175),
        (97, 2522747457511168178),
        (128, 11506305781529167726),
        (129, 6399415333318461374),
        (145, 3692344102550925299),
        (200, 17964655265976344811),
        (239, 5597283652156537070),
        (240, 12654803894382037808),
        (241, 332892034233991198),
        (300, 2222008398003399105),
        (1023, 8198593584000166783),
        (1024, 14448171176551793522),
        (1025, 9144318842285012702),
        (1088, 6332268030344158253),
        (2048, 2471772861005386850),
        (2049, 8350114272739794165),
        (5000, 11310243276454990587),
    ],
)
def test_xxh3(size, expected):
    """As hash4j computes it, for every kind of length."""
    assert xxh3_64(bytes((index * 31 + size * 7 + 1) & 255 for index in range(size))) == expected


def test_topics():
    """Id, name and racks all count; no topics at all are 0."""
    topic_id = (0x0102030405060708).to_bytes(8) + (2**64 - 2).to_bytes(8)
    known = topic_hash("or\u00e9ders", topic_id, [["a", "b"], []])
    assert known == -5228150569441441511
    others = [
        topic_hash("orders", topic_id, [["a", "b"], []]),
        topic_hash("or\u00e9ders", bytes(16), [["a", "b"], []]),
        topic_hash("or\u00e9ders", topic_id, [["ab"], []]),
        topic_hash("or\u00e9ders", topic_id, [["a"], ["b"]]),
        topic_hash("or\u00e9ders", topic_id, [["a", "b"]]),
    ]
    assert len({known, *others}) == 6
    assert group_hash({}) == 0
    assert group_hash({"a": 1, "b": 2}) == group_hash({"b": 2, "a": 1}) != group_hash({"a": 2, "b": 1})
