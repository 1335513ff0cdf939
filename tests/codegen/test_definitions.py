from __future__ import annotations

import zipfile

from tools.codegen.definitions import read_definitions


def test_definitions_are_found_and_comments_are_not_theirs(tmp_path):
    """Every JSON file of a jar's message directories is read, comments apart; slashes in strings stay."""
    jar = tmp_path / "some.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr(
            "common/message/A.json", '// a licence\n{"name": "A", // "no": 1\n "about": "see http://x \\"//"}'
        )
        archive.writestr("common/metadata/B.json", '{"name": "B"}')
        archive.writestr("message/C.json", '{"name": "C"}')
        archive.writestr("elsewhere/D.json", "{")
    assert read_definitions(jar) == {
        "A": {"name": "A", "about": 'see http://x "//'},
        "B": {"name": "B"},
        "C": {"name": "C"},
    }
