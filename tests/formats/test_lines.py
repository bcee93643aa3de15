import gzip
import json

import numpy as np
import pytest

from conjoin.errors import FileError, InputError
from conjoin.formats import format_of
from conjoin.formats.lines import FORMAT, read_answers
from conjoin.outputs import Texts, Values


@pytest.fixture
def put(tmp_path):
    def put(name, content):
        path = tmp_path / name
        raw = content if isinstance(content, bytes) else content.encode("utf-8")
        path.write_bytes(raw)
        return path

    return put


def test_it_is_the_format_of_texts():
    assert format_of("texts") is FORMAT


def test_plain_lines(put):
    a = put("a b.txt", "um\r\n\ndois \x85 tr\u2028ês\n")
    found = FORMAT.read({"a b": a}, put("truth.txt", "x\ny\nz"))
    assert found.outputs["a b"].texts.tolist() == ["um", "", "dois \x85 tr\u2028ês"]
    assert found.outputs["a b"].answered.all()
    assert found.truth.texts.tolist() == ["x", "y", "z"]
    assert found.rows.tolist() == ["1", "2", "3"]


def test_gzip_in_and_out(put, tmp_path):
    found = FORMAT.read({"a": put("a.txt.gz", gzip.compress("é\nü\n".encode()))}, None)
    FORMAT.write(found.outputs["a"], found, tmp_path / "out.txt.gz")
    assert gzip.decompress((tmp_path / "out.txt.gz").read_bytes()).decode() == "é\nü\n"


def test_json_lines(put):
    lines = ['"x"', "null", '{"text": "y", "score": -1.5}', '{"text": null}', '{"text": "z", "score": NaN}']
    found = FORMAT.read({"a": put("a.jsonl", "\n".join(lines))}, None)
    a = found.outputs["a"]
    assert a.texts.tolist() == ["x", "", "y", "", "z"]
    assert a.answered.tolist() == [True, False, True, False, True]
    np.testing.assert_array_equal(a.scores, [np.nan, np.nan, -1.5, np.nan, np.nan])


def test_n_best_lists_are_members(put):
    lines = ['{"texts": ["x", "y"], "scores": [-1, null]}', '{"texts": ["z"]}', '{"texts": []}']
    found = FORMAT.read({"a": put("a.ndjson", "\n".join(lines))}, None)
    assert sorted(found.outputs) == ["a#1", "a#2"]
    assert found.outputs["a#2"].answered.tolist() == [True, False, False]
    assert found.outputs["a#1"].scores[0] == -1


def test_rows_are_laid_side_by_side_by_id(put):
    a = put("a.jsonl", '{"id": 1, "text": "x"}\n{"id": "k", "text": "y"}')
    b = put("b.jsonl", '{"id": "k", "text": "z"}\n{"id": "new", "text": "w"}')
    truth = put("t.jsonl", '{"id": "new", "text": "w"}')
    found = FORMAT.read({"a": a, "b": b}, truth)
    assert found.rows.tolist() == ["1", "k", "new"]
    assert found.outputs["b"].texts.tolist() == ["", "z", "w"]
    assert found.outputs["b"].answered.tolist() == [False, True, True]
    assert found.truth.answered.tolist() == [False, False, True]


def test_written_json_is_read_again(put, tmp_path):
    found = FORMAT.read({"a": put("a.txt", "x\ny\nz")}, None)
    fused = Texts(["line\nbreak", "", "שלום"], [0.5, np.nan, np.nan], [True, False, True])
    FORMAT.write(fused, found, tmp_path / "o.jsonl")
    assert json.loads((tmp_path / "o.jsonl").read_text("utf-8").splitlines()[1]) == {"id": "2", "text": None}
    again = FORMAT.read({"o": tmp_path / "o.jsonl"}, None)
    assert again.outputs["o"].texts.tolist() == fused.texts.tolist()
    assert again.outputs["o"].answered.tolist() == fused.answered.tolist()
    np.testing.assert_array_equal(again.outputs["o"].scores, fused.scores)


def test_what_cannot_be_written(put, tmp_path):
    found = FORMAT.read({"a": put("a.txt", "x")}, None)
    with pytest.raises(InputError, match=r"row 1 holds a line break.*jsonl"):
        FORMAT.write(Texts(["a\nb"]), found, tmp_path / "o.txt")
    assert not (tmp_path / "o.txt").exists()
    with pytest.raises(InputError, match="not values"):
        FORMAT.write(Values([1.0]), found, tmp_path / "o.txt")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "a string, null or an object"),
        ('{"id": 1}', "'text' or 'texts'"),
        ('{"text": "a", "texts": ["b"]}', "one of them"),
        ('{"text": 3}', "texts must be strings"),
        ('{"texts": "ab"}', "texts must be strings"),
        ('{"texts": ["a"], "scores": [1, 2]}', "1 texts need 1 scores"),
        ('{"text": "a", "score": "high"}', "finite number"),
        ('{"text": "a", "score": Infinity}', "finite number"),
        ('{"text": "a", "score": 1' + "0" * 400 + "}", "finite number"),
        ('{"text": "a", "score": true}', "finite number"),
        ('{"id": [1], "text": "a"}', "the id must be"),
        ('{"text": "\\ud800"}', "surrogates"),
    ],
)
def test_bad_json_names_file_and_line(put, line, told):
    with pytest.raises(InputError, match=r"a\.jsonl, line 2") as error:
        read_answers(put("a.jsonl", f'"fine"\n{line}\n"fine"'))
    assert told in str(error.value)


def test_files_that_do_not_fit(put):
    a, b = put("a.txt", "x\ny"), put("b.txt", "x")
    with pytest.raises(InputError, match=r"same number of lines.*a\.txt: 2.*b\.txt: 1"):
        FORMAT.read({"a": a, "b": b}, None)
    ids = put("c.jsonl", '{"id": 1, "text": "x"}\n{"id": 2, "text": "x"}')
    with pytest.raises(InputError, match=r"a\.txt, line 1: no id, but .*c\.jsonl has ids"):
        FORMAT.read({"a": a, "c": ids}, None)
    with pytest.raises(InputError, match=r"d\.jsonl, line 2: the id '1' was on line 1"):
        read_answers(put("d.jsonl", '{"id": 1, "text": "x"}\n{"id": "1", "text": "x"}'))
    with pytest.raises(InputError, match=r"t\.jsonl, line 1: 2 true texts"):
        FORMAT.read({"b": b}, put("t.jsonl", '{"texts": ["a", "b"]}'))
    with pytest.raises(InputError, match=r"the member 'e#1' is there twice"):
        FORMAT.read({"e#1": b, "e": put("e.jsonl", '{"texts": ["a", "b"]}')}, None)


def test_files_that_are_none(put, tmp_path):
    with pytest.raises(InputError, match="has no lines"):
        read_answers(put("empty.txt", ""))
    with pytest.raises(FileError, match="line 2: not UTF-8"):
        read_answers(put("latin.txt", b"a\n\xe9\n"))
    with pytest.raises(FileError, match="no file"):
        read_answers(tmp_path / "absent.txt")
