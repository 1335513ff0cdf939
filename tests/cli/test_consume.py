from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.clients

ALL = ("--from-beginning", "--until-end")


@pytest.fixture
def filled(barnabas, topic):
    """A topic with ten records `key0:0` ... `key9:9`."""
    barnabas.done("produce", topic, "--key-separator", ":", stdin="".join(f"key{n}:{n}\n" for n in range(10)))
    return topic


def test_from_the_beginning_to_the_end(barnabas, filled):
    """Every record is printed once, its value on a line, and nothing else on standard output."""
    assert barnabas.done("consume", filled, *ALL) == "".join(f"{n}\n" for n in range(10))


def test_a_number_of_records(barnabas, filled):
    """It stops after as many as were asked for."""
    assert barnabas.done("consume", filled, "--from-beginning", "--max-messages", "3") == "0\n1\n2\n"


@pytest.mark.parametrize(
    ("offset", "expected"),
    [("8", "8\n9\n"), ("-3", "7\n8\n9\n"), ("-100", "".join(f"{n}\n" for n in range(10)))],
)
def test_an_offset_to_begin_at(barnabas, filled, offset, expected):
    """A number counts from the start, a negative one from the end."""
    assert barnabas.done("consume", filled, "--offset", offset, "--until-end") == expected


def test_one_partition(barnabas, topic_name):
    """Only the partition that was asked for is read."""
    barnabas.done("topics", "create", topic_name, "--partitions", "2")
    barnabas.done("produce", topic_name, "--partition", "0", stdin="a\n")
    barnabas.done("produce", topic_name, "--partition", "1", stdin="b\n")
    assert barnabas.done("consume", topic_name, "--partition", "1", *ALL) == "b\n"
    assert sorted(barnabas.done("consume", topic_name, *ALL)) == sorted("a\nb\n")
    ended = barnabas("consume", topic_name, "--partition", "5", *ALL)
    assert ended.returncode == 1
    assert "has no partition 5; it has 2" in ended.stderr


def test_an_empty_topic_ends_at_once(barnabas, topic):
    """There is nothing to wait for when the end is asked for."""
    assert barnabas.done("consume", topic, *ALL) == ""


def test_patience(barnabas, topic):
    """Without records it stops after the time that was given."""
    assert barnabas.done("consume", topic, "--timeout", "0.5") == ""


def test_a_group_goes_on_where_it_stopped(barnabas, filled):
    """What a group has printed it does not print again; another group begins for itself."""
    group = f"group-{filled}"
    first = barnabas.done("consume", filled, "--group", group, "--from-beginning", "--max-messages", "4")
    assert first == "0\n1\n2\n3\n"
    rest = barnabas.done("consume", filled, "--group", group, *ALL)
    assert rest == "4\n5\n6\n7\n8\n9\n"
    assert barnabas.done("consume", filled, "--group", group, *ALL) == ""
    other = barnabas.done(
        "consume", filled, "--group", f"{group}-2", "--from-beginning", "--max-messages", "1"
    )
    assert other == "0\n"


def test_formats(barnabas, topic):
    """Templates, JSON and the full form show key, headers, time and place."""
    barnabas.done("produce", topic, "--key", "k", "--header", "h=1", stdin="v\n")
    template = barnabas.done(
        "consume", topic, *ALL, "--format", r"{topic}|{partition}|{offset}|{key}\t{value}|{headers}"
    )
    assert template == f"{topic}|0|0|k\tv|h=1\n"
    record = json.loads(barnabas.done("consume", topic, *ALL, "--format", "json"))
    assert (record["key"], record["value"], record["headers"], record["offset"]) == (
        "k",
        "v",
        [["h", "1"]],
        0,
    )
    full = barnabas.done("consume", topic, *ALL, "--format", "all")
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z  {topic}-0  offset 0  h=1\n  k: v\n", full
    )


def test_a_topic_that_is_not_there(barnabas, topic_name):
    """It says so and how to create it, and does not create it by asking."""
    for group in ((), ("--group", "g")):
        ended = barnabas("consume", topic_name, *group)
        assert ended.returncode == 1
        assert f"barnabas topics create {topic_name}" in ended.stderr
    assert topic_name not in barnabas.done("topics", "list", "--json")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_follows_until_it_is_told_to_stop(barnabas, filled, number):
    """New records are printed as they come; Ctrl-C and SIGTERM end it in order, with status 0 and no traceback."""
    group = f"group-{filled}-{number}"
    with barnabas.running("consume", filled, "--group", group, "--from-beginning") as process:
        assert [process.stdout.readline() for _ in range(10)] == [f"{n}\n" for n in range(10)]
        barnabas.done("produce", filled, stdin="later\n")
        assert process.stdout.readline() == "later\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    assert barnabas.done("consume", filled, "--group", group, *ALL) == ""


def test_a_reader_that_has_seen_enough(barnabas, topic):
    """`barnabas consume | head -1` ends without a complaint."""
    barnabas.done("produce", topic, "--quiet", stdin="".join(f"{n:0100}\n" for n in range(20_000)))
    with barnabas.running("consume", topic, *ALL) as process:
        head = subprocess.Popen(["head", "-n", "1"], stdin=process.stdout, stdout=subprocess.PIPE, text=True)
        process.stdout.close()
        out, _ = head.communicate(timeout=30)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    assert out == f"{0:0100}\n"


def test_bytes_come_out_as_they_are(barnabas, topic):
    """Values that are no text are written unchanged."""
    value = bytes(range(256)).replace(b"\n", b"")
    run = [sys.executable, "-m", "barnabas"]
    subprocess.run(
        [*run, "produce", topic],
        input=value + b"\n",
        env=barnabas.environment,
        check=True,
        capture_output=True,
    )
    done = subprocess.run(
        [*run, "consume", topic, *ALL], env=barnabas.environment, check=True, capture_output=True
    )
    assert done.stdout == value + b"\n"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--group", "g", "--offset", "1"), "leave out --partition and --offset"),
        (("--from-beginning", "--offset", "1"), "exclude each other"),
        (("--format", "{nothing}"), "there is no field {nothing}"),
        (("--format", "nothing"), "write value, json, all, or a template"),
        (("--property", "x"), "write it as KEY=VALUE"),
    ],
)
def test_wrong_options(command, options, complaint):
    """Options that do not fit are refused before anybody is asked."""
    ended = command("consume", "t", *options)
    assert ended.returncode == 1
    assert complaint in ended.stderr
