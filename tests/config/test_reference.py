from __future__ import annotations

import importlib
import inspect
import re

import pytest

from barnabas.cli import COMMANDS
from barnabas.config.group import GROUP_KEYS
from barnabas.config.keys import BROKER_KEYS
from barnabas.config.removed import REMOVED
from barnabas.config.topic import TOPIC_KEYS
from barnabas.handlers.registry import HANDLERS
from barnabas.metrics import METRICS
from barnabas.wire.apis import APIS
from tools import reference
from tools.differences import FIELDS, ORDERS, WORDS
from tools.limits import LIMITS


def test_the_pages_are_up_to_date():
    """docs/reference says what the code says; `python -m tools.reference` writes it."""
    assert reference.stale() == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("configuration.md", [*BROKER_KEYS, *REMOVED]),
        ("topic-configuration.md", TOPIC_KEYS),
        ("group-configuration.md", GROUP_KEYS),
        ("metrics.md", [metric.name for metric in METRICS]),
        (
            "differences.md",
            [*FIELDS, *ORDERS, *WORDS, *(key.name for key in BROKER_KEYS.values() if key.differs)],
        ),
        ("cli.md", [f"barnabas {name}" for name in COMMANDS]),
    ],
)
def test_everything_has_its_line(page, names):
    """Nothing is left out of a page."""
    text = reference.PAGES[page]()
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    "limit", [limit for rows in LIMITS.values() for limit in rows], ids=lambda limit: limit.what
)
def test_limits_are_there(limit):
    """Each limit is a key that has an effect or a constant, and what it bounds is an attribute that there is."""
    for by in limit.by:
        module, _, name = by.partition(":")
        if name:
            assert hasattr(importlib.import_module(f"barnabas.{module}"), name), by
        else:
            assert BROKER_KEYS[by].effective, by
    module, _, place = limit.held_in.partition(":")
    owner, _, attribute = place.partition(".")
    kind = getattr(importlib.import_module(f"barnabas.{module}"), owner)
    if not attribute:
        assert kind.cache_info().maxsize, place
        return
    source = inspect.getsource(kind)
    assert f'"{attribute}"' in source or f"self.{attribute}" in source or f"    {attribute}:" in source, place


def test_every_api_has_its_line():
    """Every API of a broker is served or named as not served, and what is served says what it does."""
    text = reference.PAGES["apis.md"]()
    for key, api in APIS.items():
        if "broker" in api.listeners:
            assert len(re.findall(rf"^\| {key} \| {api.name} \|", text, re.MULTILINE)) == 1
    for key in HANDLERS:
        assert re.search(rf"^\| {key} \|[^|]+\|[^|]+\|[^|]+\| \w[^|]*\. \|[^|]*\|$", text, re.MULTILINE), (
            APIS[key].name
        )


def test_tables_are_whole():
    """Every line of a table has as many cells as its heading."""
    for name, page in reference.PAGES.items():
        width = None
        for line in page().splitlines():
            if line.startswith("|"):
                cells = len(re.findall(r"(?<!\\)\|", line))
                assert cells == (width := width or cells), (name, line)
            else:
                width = None


def test_a_page_that_is_out_of_date_fails_the_check(tmp_path, monkeypatch, capsys):
    """--check names the page and fails; without it the page is written, and the check passes."""
    monkeypatch.setattr(reference, "DIRECTORY", tmp_path)
    assert reference.main(["--check"]) == 1
    assert "docs/reference/cli.md is not up to date" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    (tmp_path / "cli.md").write_text("something else")
    assert reference.main(["--check"]) == 1
