"""Files that are whole or not there, and damage that is found: every truncation, every kind of flipped bit."""

import errno
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import OutputError
from harness.records import files
from harness.records.parts import Part, Parts


def fill_the_disk(path):
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written: No space left on device"):
        fill_the_disk(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_document_tells_when_it_was_changed(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"size": 100, "name": "ü"})
    assert files.read_json(path) == {"size": 100, "name": "ü"}
    for text in (path.read_text().replace("100", "101"), "[]", "{", "", '{"size": 100}'):
        path.write_text(text)
        with pytest.raises(OutputError, match=r"a\.json"):
            files.read_json(path)


def test_a_document_that_is_there_stays(tmp_path):
    files.create_json(tmp_path / "a.json", {"size": 1})
    files.create_json(tmp_path / "a.json", {"size": 2})
    assert files.read_json(tmp_path / "a.json") == {"size": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_listed_files_are_checked(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name * 100)
    listing = tmp_path / "DONE"
    listing.write_text(files.checksums([tmp_path / "a", tmp_path / "b"]))
    assert files.damage(listing) is None
    (tmp_path / "b").write_text("b" * 99 + "c")
    assert "b: it is not what was written" in files.damage(listing)
    (tmp_path / "a").unlink()
    assert "a: it is missing" in files.damage(listing)
    listing.write_text("")
    assert "lists no files" in files.damage(listing)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(-1, 7))
def test_a_part_that_was_cut_or_flipped_is_not_used(tmp_path_factory, place, bit):
    parts = Parts(tmp_path_factory.mktemp("run"), "cell")
    part = Part([{"id": "a", "hypothesis": "b \x00 \ud800"}], [1, 2], {"decode_seconds": 1.5}, 1, True)
    parts.save(3, part)
    assert parts.load(3) == part
    assert parts.load(2) is None
    (path,) = parts._directory.iterdir()
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if bit < 0:
        del content[at:]
    else:
        content[at] ^= 1 << bit
    path.write_bytes(content)
    assert parts.load(3) is None
    assert not list(parts._directory.iterdir())


def test_temporary_names_are_told_from_others(tmp_path):
    assert files.is_temporary(files.temporary_beside(tmp_path / "cell.json"))
    assert not files.is_temporary(tmp_path / ".DS_Store")
    assert not files.is_temporary(tmp_path / ".lock")


def test_text_that_a_file_system_cannot_name_is_kept(tmp_path):
    files.write_json(tmp_path / "a.json", {"text": "\u202e<script>"})
    assert json.loads((tmp_path / "a.json").read_text())["text"] == "\u202e<script>"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"0" * 64, b"0" * 64 + b"  ", b"\xff\xfe", b"0  a\x00b", b"0  ../..", b"0  nowhere"]
)
def test_any_listing_is_damage_not_an_error(tmp_path, content):
    (tmp_path / "DONE").write_bytes(content)
    assert files.damage(tmp_path / "DONE").startswith(str(tmp_path))
    assert "cannot be read" in files.damage(tmp_path / "none")
