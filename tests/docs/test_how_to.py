"""The README's and the how-to pages' commands: those with output are run, the others are at least valid."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from barnabas.cli import COMMANDS, command_parser
from barnabas.cli.serve import settings
from barnabas.config.broker import BrokerConfig
from barnabas.config.topic import TOPIC_KEYS
from barnabas.network.endpoints import (
    parse_advertised_listeners,
    parse_listeners,
    parse_security_protocol_map,
)
from tests.docs.markdown import ROOT, blocks, pages, transcript
from tests.docs.shell import Shell

GENERATED = {"reference"}
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(page):
    """Every command of a page's shell blocks, its words up to a pipe, redirection or comment."""
    for block in blocks(page):
        if block.language == "console":
            lines = [command for command, _ in transcript(block.text)]
        elif block.language == "sh":
            lines = block.text.replace("\\\n", " ").splitlines()
        else:
            continue
        for line in lines:
            for part in re.split(r"\s(?:\||&&|\|\||&)(?:\s|$)", line):
                words = shlex.split(re.sub(r"\s2?>>?\s.*", "", part), comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield block.line, words


ALL = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}:{line}:{' '.join(words)[:60]}")
    for page in pages()
    if page.parent.name not in GENERATED
    for line, words in commands(page)
]


@pytest.mark.parametrize("words", [param for param in ALL if param.values[0][0] == "barnabas"])
def test_commands_are_valid(words):
    """The command exists, it takes these options, and the settings are known and consistent."""
    if words[1:] == ["--help"]:
        return
    assert words[1] in COMMANDS
    options = command_parser(words[1]).parse_args(words[2:])
    if words[1] == "serve":
        config = BrokerConfig.load(None, {}, settings(options))
        protocols = parse_security_protocol_map(config["listener.security.protocol.map"])
        listeners = parse_listeners(config["listeners"], protocols)
        if config["advertised.listeners"]:
            parse_advertised_listeners(config["advertised.listeners"], listeners, protocols)
    for setting in getattr(options, "config", None) or []:
        if words[1] == "topics":
            assert setting.partition("=")[0] in TOPIC_KEYS


@pytest.mark.parametrize(
    "page", [page for page in pages() if page.name != "CHANGELOG.md"], ids=lambda page: page.name
)
def test_make_targets_exist(page):
    """Whatever a page says to make can be made."""
    said = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert said <= TARGETS


def test_the_readme_begins_with_the_two_commands():
    """One starts a broker, one runs the tests, and CI runs the second."""
    first = blocks(ROOT / "README.md")[0].text
    assert re.findall(r"^(make \w+)", first, re.MULTILINE) == ["make broker", "make test"]
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.clients
@pytest.mark.timeout(200)
@pytest.mark.skipif(sys.platform == "win32", reason="they are written for a shell of Unix")
@pytest.mark.parametrize("page", [ROOT / "README.md", *HOW_TO], ids=lambda page: page.stem)
def test_transcripts_are_true(page, tmp_path):
    """Every command with its output is run, and the output is seen."""
    found = [block for block in blocks(page) if block.language == "console"]
    if not found:
        pytest.skip("nothing to run")
    with Shell(tmp_path) as shell:
        for block in found:
            for command, shown in transcript(block.text):
                if not command.startswith("pip install"):
                    shell.run(command, shown)
