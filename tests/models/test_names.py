# SPDX-License-Identifier: Apache-2.0
"""Names of users' files become safe names of new files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssad_models.names import printable, safe_file_name, unique_file_name

HOSTILE = [
    *("..", "../../etc/passwd", "/etc/passwd", "a\\b.png", ".hidden", "", "con"),
    *("a b.png", "a'\"b.png", "<script>alert(1)</script>.png", "Größe µ 图.png"),
    *("a\nb.png", "\x1b[31mred.png", "a\x00b", os.fsdecode(b"\xff\xfe.png")),
    *("x" * 400, "é" * 200),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    safe = safe_file_name(name)
    path = tmp_path / f"{safe}.png"
    path.write_bytes(b"")
    assert path.resolve().parent == tmp_path.resolve()
    assert not safe.startswith(".")
    assert safe.isprintable()
    assert not set(safe) & set("/\\<>\"'\n ")
    safe.encode()


@given(st.text())
def test_any_text_gives_one_plain_part(name: str) -> None:
    safe = safe_file_name(name)
    assert safe not in ("", ".", "..")
    assert len(safe.encode()) <= 120
    assert Path(safe).name == safe


def test_letters_of_any_script_are_kept() -> None:
    assert safe_file_name("Größe µ 图-1_2.png") == "Größe_µ_图-1_2.png"


def test_collisions_get_numbers() -> None:
    taken: set[str] = set()
    names = [unique_file_name(name, taken) for name in ("a/b", "a_b", "A B", "a_b-2", "c")]
    assert names == ["a_b", "a_b-2", "A_B-3", "a_b-2-2", "c"]


def test_printable_shows_bytes_that_are_no_text() -> None:
    assert printable(os.fsdecode(b"a\xffb")) == "a\\xffb"
    assert printable(Path("é")) == "é"
