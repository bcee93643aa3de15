"""TREC runs and judgements: what they say, and what is wrong with them, by line."""

import gzip

import numpy as np
import pytest

from conjoin.errors import FileError, InputError
from conjoin.formats import format_of
from conjoin.formats.trec import read, read_judgements, read_run, write
from conjoin.outputs import Ranking, Values

RUN = "q1 Q0 d1 1 2.5 a\nq1 Q0 d2 2 3.5 a\n\nq 2".replace("q 2", "q2\tQ0  d3 1 1e-3 a\n")
JUDGED = "q1 0 d2 1\nq3 0 d9 2\nq1 0 d1 0\n"


@pytest.fixture
def files(tmp_path):
    def make(**texts):
        out = {}
        for name, text in texts.items():
            out[name] = tmp_path / f"{name} файл.txt"
            out[name].write_text(text, encoding="utf-8")
        return out

    return make


def test_rows_are_the_union_and_scores_decide_the_order(files):
    made = files(a=RUN, b="q2 Q0 d3 7 1 b\nq3 Q0 d4 1 1 b\n", truth=JUDGED)
    truth = made.pop("truth")
    found = read(made, truth)
    assert found.rows.tolist() == ["q1", "q2", "q3"]
    a, b = found.outputs["a"], found.outputs["b"]
    assert a.ids.tolist() == ["d2", "d1", "d3"]
    assert a.scores.tolist() == [3.5, 2.5, 1e-3]
    assert a.answered.tolist() == [True, True, False]
    assert b.answered.tolist() == [False, True, True]
    assert found.truth.answered.tolist() == [True, False, True]
    assert found.truth.scores.tolist() == [1, 0, 2]
    assert read(made, None).truth is None


def test_equal_scores_stay_in_the_order_of_the_file(files):
    text = "".join(f"q Q0 d{i} 1 0.5 a\n" for i in (3, 1, 2))
    assert read(files(a=text), None).outputs["a"].ids.tolist() == ["d3", "d1", "d2"]


def test_gzip_is_read_and_written(files, tmp_path):
    packed = tmp_path / "run.gz"
    packed.write_bytes(gzip.compress(RUN.encode()))
    found = read({"a": packed}, None)
    out = tmp_path / "out.gz"
    write(found.outputs["a"], found, out)
    assert out.read_bytes()[:2] == b"\x1f\x8b"
    assert read_run(out) == read_run(packed)
    assert gzip.decompress(out.read_bytes()).decode().splitlines()[0] == "q1 Q0 d2 1 3.5 conjoin"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("q1 Q0 d1 1 2.5 a\nq1 Q0 d1 2 1.5 a\n", r"line 2: query 'q1' has the document 'd1' a second time"),
        ("q1 Q0 d1 1 nan a\n", r"line 1: the score 'nan' is no finite number"),
        ("\n\nq1 Q0 d1 1 inf a\n", r"line 3: the score 'inf'"),
        ("q1 Q0 d1 1 high a\n", r"line 1: the score 'high'"),
        ("q1 Q0 d1 1 2.5\n", r"line 1: 5 fields, but a line is: query Q0"),
        ("q1 0 d1 1\n", r"line 1: 4 fields"),
    ],
)
def test_bad_lines_of_a_run_are_told(files, text, told):
    with pytest.raises(InputError, match=told):
        read_run(files(run=text)["run"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("q1 0 d1 1\nq1 0 d1 0\n", r"line 2: query 'q1' has the document 'd1' a second time"),
        ("q1 0 d1 yes\n", r"line 1: the gain 'yes'"),
        (RUN, r"line 1: 6 fields, but a line is: query iteration"),
    ],
)
def test_bad_judgements_are_told(files, text, told):
    with pytest.raises(InputError, match=told):
        read_judgements(files(truth=text)["truth"])


def test_files_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(FileError, match="no file"):
        read_run(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"q1 Q0 d1 1 1 a\nq1 Q0 \xff 1 1 a\n")
    with pytest.raises(FileError, match="line 2"):
        read_run(tmp_path / "bad")


def test_empty_files_and_unanswered_rows(files, tmp_path):
    found = read(files(a="", b=RUN), None)
    assert found.outputs["a"].answered.tolist() == [False, False]
    write(found.outputs["a"], found, tmp_path / "out")
    assert (tmp_path / "out").read_text() == ""


def test_what_a_run_cannot_hold_is_told(files, tmp_path):
    found = read(files(a=RUN), None)
    with pytest.raises(InputError, match="'two words'"):
        write(Ranking(["two words"], [1.0], [0, 1, 1]), found, tmp_path / "out")
    with pytest.raises(InputError, match="not values"):
        write(Values(np.zeros(2)), found, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert format_of("ranking").kind == "ranking"
