"""The tutorial is run, command by command."""

from __future__ import annotations

import os
import re
import sys

import pytest

from tests.clients.programs import MissingToolError, program
from tests.docs.markdown import ROOT, blocks, transcript
from tests.docs.shell import Shell

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="it is written for a shell of Unix"),
]


def has_node(directory):
    """Whether the part for Node.js can be run; KafkaJS is then at hand as after `npm install`."""
    try:
        _, peer = program("kafkajs").command
    except MissingToolError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        return False
    (directory / "node_modules").symlink_to(os.path.join(os.path.dirname(peer), "node_modules"))  # noqa: PTH118, PTH120
    return True


def test_the_tutorial_does_what_it_says(tmp_path):
    """Every program is saved, every command runs, and every line that is shown is seen."""
    with_node = has_node(tmp_path)
    with Shell(tmp_path) as shell:
        ran = 0
        for block in blocks(ROOT / "docs" / "tutorial.md"):
            if block.language in {"python", "js"}:
                name = re.match(r"(?:#|//) (\S+)\n", block.text)
                assert name, f"line {block.line}: a program begins with its name"
                shell.save(name[1], block.text)
            elif block.language == "console":
                for command, shown in transcript(block.text):
                    if with_node:
                        shell.run(command, shown)
                        ran += 1
                    elif not command.startswith("node "):
                        shell.run(command, [line for line in shown if not depends_on_node(line)])
                        ran += 1
    assert ran > 15


def depends_on_node(line):
    return "dan" in line or line.startswith("shipped") or line.isdecimal()
