"""CTM and STM: what files say, what is refused, and what is written."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from conjoin.errors import FileError, InputError
from conjoin.formats import format_of
from conjoin.formats.ctm import FORMAT, read_ctm, read_reference, words_of
from conjoin.outputs import Texts, Values

CTM = """;; a remark
talk A 0.10 0.20 the 0.9

talk A 0.30 0.20 cat NA
talk B 1.00 0.50 да 1.0
"""


def put(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def read(tmp_path, truth=None, **files):
    paths = {n: put(tmp_path / f"{n}.ctm", t) for n, t in files.items()}
    return FORMAT.read(paths, None if truth is None else put(tmp_path / "ref.stm", truth))


def test_words_of_each_file_and_channel(tmp_path):
    found = read(tmp_path, a=CTM, b="talk B 1.0 .4 no\nother 1 0 1 x\n")
    assert format_of("words").told == FORMAT.told
    assert found.rows.tolist() == ["talk A", "talk B", "other 1"]
    a, b = found.outputs["a"], found.outputs["b"]
    assert a.texts.tolist() == ["the cat", "да", ""]
    assert a.answered.tolist() == [True, True, False]
    assert b.answered.tolist() == [False, True, True]
    np.testing.assert_array_equal(a.confidences, [0.9, np.nan, 1.0])
    np.testing.assert_allclose(a.starts, [0.1, 0.3, 1.0])
    np.testing.assert_allclose(a.ends, [0.3, 0.5, 1.5])
    assert found.truth is None


def test_out_of_order_overlapping_and_empty(tmp_path):
    mixed = "u 1 2.0 .5 second\nv 1 0 1 x\nu 1 1.0 1.8 first\nu 1 1.0 .1 again\n"
    found = read(tmp_path, a=mixed, b=";; nothing heard\n", c="u 1 0 0 @ 0.5\n")
    assert found.outputs["a"].texts.tolist() == ["first again second", "x"]
    assert found.outputs["b"].answered.tolist() == [False, False]
    assert found.outputs["c"].texts.tolist() == ["", ""]
    assert found.outputs["c"].answered.tolist() == [True, False]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("u 1 -0.5 1 x", "line 2: the start -0.5 is negative"),
        ("u 1 0.5 -1 x", "line 2: the duration -1 is negative"),
        ("u 1 zero 1 x", "line 2: the start 'zero' is no finite number"),
        ("u 1 nan 1 x", "line 2: the start 'nan' is no finite number"),
        ("u 1 0 1 x high", "line 2: the confidence 'high' is no finite number"),
        ("u 1 0 1 x inf", "line 2: the confidence 'inf'"),
        ("u 1 0 1", "line 2: 4 fields, but a line is: file channel start duration word"),
        ("u 1 * * <ALT>", "line 2: <ALT> out of place"),
        ("u 1 * * <ALT_BEGIN>", "line 2: <ALT_BEGIN> without <ALT_END>"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, told):
    with pytest.raises(InputError, match=r"a\.ctm, ") as raised:
        read(tmp_path, a=f"u 1 0 1 fine\n{line}\n")
    assert told in str(raised.value)


def test_bad_files(tmp_path):
    with pytest.raises(FileError, match="there is no file"):
        FORMAT.read({"a": tmp_path / "none.ctm"}, None)
    (tmp_path / "bad.ctm").write_bytes(b"u 1 0 1 fine\nu 1 0 1 \xff\n")
    with pytest.raises(FileError, match="line 2: not UTF-8"):
        read_ctm(tmp_path / "bad.ctm")


ALTERNATED = """u 1 0 .1 a
u 1 * * <ALT_BEGIN>
u 1 .1 .1 b .5
u 1 .2 .1 c .5
u 1 * * <ALT>
u 1 .1 .2 d .5
u 1 * * <ALT>
u 1 * * @
u 1 * * <ALT_END>
u 1 .4 .1 e
"""


def test_alternatives(tmp_path):
    told = ALTERNATED.replace("u 1 * * @\n", "u 1 0 0 @\n")
    path = put(tmp_path / "alternated.ctm", told)
    assert [w.spelled for w in read_ctm(path)[("u", "1")]] == ["a", "b", "c", "e"]
    (segment,) = read_reference(path)[("u", "1")]
    assert segment.text == "a { b c / d / @ } e"


def test_segments_of_a_reference(tmp_path):
    stm = """;; CATEGORY "0" "" ""
u 1 ann 2.0 4.0 <o,f0> three four
u 1 ann 0.0 2.0 <o,f0> one two
v 1 bob 0.0 9.0 five
w 1 bob 0.0 9.0 ignore_time_segment_in_scoring
"""
    heard = "u 1 0 .5 one\nu 1 1.9 .5 three\nu 1 3 .5 four\nu 1 5 .5 late\nv 1 0 1 five\n"
    found = read(tmp_path, stm, a=heard)
    assert found.rows.tolist() == ["u 1 0-2", "u 1 2-4", "u 1 outside all segments", "v 1", "w 1"]
    assert found.outputs["a"].texts.tolist() == ["one", "three four", "late", "five", ""]
    assert found.truth.texts.tolist() == ["one two", "three four", "", "five", ""]
    assert found.truth.answered.tolist() == [True, True, False, True, False]
    FORMAT.write(found.outputs["a"], found, tmp_path / "out.ctm")
    assert [x.split()[4] for x in (tmp_path / "out.ctm").read_text().splitlines()] == [
        "one",
        "three",
        "four",
        "late",
        "five",
    ]


def test_many_segments_and_segments_that_overlap(tmp_path):
    stm = "".join(f"u 1 ann {k} {k + 0.9} w{k}\n" for k in range(2000))
    heard = "".join(f"u 1 {k + 0.2:.1f} 0.2 w{k}\n" for k in range(2000))
    found = read(tmp_path, stm, a=heard)
    assert found.outputs["a"].texts.tolist() == found.truth.texts.tolist()
    stm = "u 1 ann 0 10 long\nu 1 bob 2 3 short\n"
    heard = "u 1 1 .2 long\nu 1 2.4 .2 short\nu 1 5 .2 long\nu 1 11 1 none\n"
    found = read(tmp_path, stm, a=heard)
    assert found.outputs["a"].texts.tolist() == ["long long", "short", "none"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("u 1 ann 0.0", "line 1: 4 fields, but a line is: file channel speaker start end"),
        ("u 1 ann 2.0 1.0 a", "line 1: the segment ends at 1, before it starts at 2"),
        ("u 1 ann -1 1.0 a", "line 1: the start -1 is negative"),
    ],
)
def test_bad_references_are_named(tmp_path, line, told):
    with pytest.raises(InputError, match=r"ref\.stm, ") as raised:
        read(tmp_path, f"{line}\n", a=CTM)
    assert told in str(raised.value)


def test_what_is_written_is_read_again(tmp_path):
    found = read(tmp_path, a=CTM, b=CTM.replace("cat", "hat"))
    path = tmp_path / "out.ctm.gz"
    FORMAT.write(found.outputs["a"], found, path)
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert lines[0] == "talk A 0.100 0.200 the 0.900000"
    assert lines[1] == "talk A 0.300 0.200 cat -1.000000"
    again = FORMAT.read({"a": path}, None).outputs["a"]
    assert again.texts.tolist() == found.outputs["a"].texts.tolist()
    np.testing.assert_array_equal(again.confidences, found.outputs["a"].confidences)


def test_texts_without_times(tmp_path):
    found = read(tmp_path, a=CTM, b=CTM.replace("cat", "hat"))
    FORMAT.write(Texts(["the hat", "so it"], answered=[True, False]), found, tmp_path / "out.ctm")
    assert (tmp_path / "out.ctm").read_text().splitlines() == [
        "talk A 0.100 0.200 the 0.900000",
        "talk A 0.300 0.200 hat -1.000000",
    ]
    FORMAT.write(Texts(["a b c d", ""]), found, tmp_path / "out.ctm")
    assert (tmp_path / "out.ctm").read_text().splitlines()[-1] == "talk A 0.400 0.100 d -1.000000"
    assert words_of(Texts(["a b"]), 0)[1].spelled == "b"
    with pytest.raises(InputError, match="holds texts, not values"):
        FORMAT.write(Values([1.0, 2.0]), found, tmp_path / "out.ctm")
