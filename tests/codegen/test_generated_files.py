from __future__ import annotations

from pathlib import Path

from tests.oracle.kafka_jars import KAFKA_39, KAFKA_43, kafka_jars
from tools.codegen.__main__ import generate

_WIRE = Path(__file__).parents[2] / "src/barnabas/wire"


def test_the_committed_files_are_what_the_definitions_give():
    """Generating anew changes no file, leaves none out and adds none."""
    files = generate(Path(kafka_jars(KAFKA_43)).parent, Path(kafka_jars(KAFKA_39)).parent)
    expected = {file.path: file.text for file in files}
    present = [*(_WIRE / "messages").rglob("*.py"), _WIRE / "apis.py"]
    assert {path.relative_to(_WIRE).as_posix() for path in present} == expected.keys()
    changed = [name for name, text in expected.items() if (_WIRE / name).read_text() != text]
    assert not changed, "run `python -m tools.codegen`"
