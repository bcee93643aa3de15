"""What all formats share: reading bytes and text, writing in one step."""

import gzip

import pytest

from conjoin.errors import FileError, InputError
from conjoin.formats import format_of
from conjoin.formats.record import place, read_text, write_text


def test_text_plain_and_packed(tmp_path):
    write_text(tmp_path / "a.txt.gz", "é\n")
    assert gzip.decompress((tmp_path / "a.txt.gz").read_bytes()).decode() == "é\n"
    assert read_text(tmp_path / "a.txt.gz") == "é\n"
    (tmp_path / "b").write_bytes(b"\xef\xbb\xbfx")
    assert read_text(tmp_path / "b") == "x"


def test_bad_bytes_are_told_with_their_line(tmp_path):
    (tmp_path / "latin").write_bytes(b"one\ntw\xe9\n")
    with pytest.raises(FileError, match=r"latin, line 2: not UTF-8"):
        read_text(tmp_path / "latin")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(FileError, match="cut"):
        read_text(tmp_path / "cut.gz")
    with pytest.raises(FileError, match="there is no file"):
        read_text(tmp_path / "absent")


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("before")

    def fail():
        with place(path) as working:
            working.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]
    with pytest.raises(FileError, match="is a folder"), place(tmp_path):
        pass


def test_a_kind_without_files_is_told():
    with pytest.raises(InputError, match="did you mean 'ranking'"):
        format_of("rankin")
