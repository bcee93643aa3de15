"""Files of annotators."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import FileError, InputError
from conjoin.formats.crowd import FORMAT, read_answers
from conjoin.outputs import Labels, Probabilities, Values

TRIPLES = "task,worker,label\nt1,ann,yes\nt1,bob,no\nt2,ann,yes\n"


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_triples_bring_their_workers(tmp_path: Path) -> None:
    truth = put(tmp_path, "truth.csv", "task,label\nt2,yes\nt9,maybe\n")
    found = FORMAT.read({"any": put(tmp_path, "a.csv", TRIPLES)}, truth)
    assert found.rows.tolist() == ["t1", "t2", "t9"]
    assert list(found.outputs) == ["ann", "bob"]
    assert found.outputs["bob"].names().tolist() == ["no", None, None]
    assert found.truth.names().tolist() == [None, "yes", "maybe"]
    assert found.outputs["ann"].classes == found.truth.classes == ("maybe", "no", "yes")


def test_dense_and_single_files_mean_the_same(tmp_path: Path) -> None:
    dense = FORMAT.read({"x": put(tmp_path, "d.csv", "task,ann,bob\nt1,yes,no\nt2,yes,\n")}, None)
    files = {
        "ann": put(tmp_path, "ann.csv", "task,label\nt1,yes\nt2,yes\n"),
        "bob": put(tmp_path, "bob.csv", "label,task\nno,t1\n,t2\n"),
    }
    single = FORMAT.read(files, None)
    triples = FORMAT.read({"x": put(tmp_path, "a.csv", TRIPLES)}, None)
    for found in (dense, single, triples):
        assert {n: o.names().tolist() for n, o in found.outputs.items()} == {
            "ann": ["yes", "yes"],
            "bob": ["no", None],
        }


def test_quotes_tabs_gzip_marks_and_other_letters(tmp_path: Path) -> None:
    text = '\ufefftask\tworker\tlabel\n"t, 1"\tИван Иванов\t"sí ""ja"""\n'
    path = tmp_path / "x.tsv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert read_answers(path) == (["t, 1"], ["Иван Иванов"], ['sí "ja"'])
    assert FORMAT.read({"x": path}, None).rows.tolist() == ["t, 1"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = FORMAT.read({"x": put(tmp_path, "a.csv", TRIPLES)}, None)
    fused = Probabilities(np.array([[0.25, 0.75], [np.nan, np.nan]]), ("no", "yes"), [True, False])
    FORMAT.write(fused, found, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "task,label,p[no],p[yes]\nt1,yes,0.25,0.75\nt2,,,\n"
    again = FORMAT.read({"fused": tmp_path / "out.csv"}, None)
    assert again.outputs["fused"].names().tolist() == ["yes", None]
    FORMAT.write(Labels.of(["no", None], ["no"]), found, tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == "task,label\nt1,no\nt2,\n"
    with pytest.raises(InputError, match="values cannot be written"):
        FORMAT.write(Values(np.zeros(2)), found, tmp_path / "no.csv")
    with pytest.raises(InputError, match="1 answers for 2 tasks"):
        FORMAT.write(Labels.of(["no"]), found, tmp_path / "no.csv")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("tsk,worker,label\n", "line 1: no column 'task'.*did you mean 'tsk'"),
        ("task,worker,lable\nt,w,x\n", "line 1: no column 'label'.*did you mean 'lable'"),
        ("task,worker,label\nt1,ann\n", "line 2: 2 fields, the header has 3"),
        ("task,worker,label\nt1,,yes\n", "line 2: the worker has no name"),
        ("task,worker,label\n,ann,yes\n", "line 2: the task has no name"),
        ("task\nt1\n", "labels are missing"),
        ("task,ann,ann\nt1,a,b\n", "columns ann come twice"),
        ('task,worker,label\nt1,ann,"yes\n', "line 2"),
        ("task,worker,label\nt1,ann,yes\n\nt1,ann,no\n", "line 4: worker 'ann' says 'no'.*said 'yes' before"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        FORMAT.read({"x": put(tmp_path, "bad.csv", text)}, None)
    assert "bad.csv" in str(caught.value)


def test_the_truth_is_checked_too(tmp_path: Path) -> None:
    answers = {"x": put(tmp_path, "a.csv", TRIPLES)}
    with pytest.raises(InputError, match="truth needs the columns task,label"):
        FORMAT.read(answers, put(tmp_path, "t.csv", TRIPLES))
    with pytest.raises(InputError, match="line 3: 't1' is 'no', and was 'yes' before"):
        FORMAT.read(answers, put(tmp_path, "t.csv", "task,label\nt1,yes\nt1,no\n"))
    with pytest.raises(FileError, match="there is no file"):
        FORMAT.read(answers, tmp_path / "none.csv")


def test_an_answer_given_twice_counts_once(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", TRIPLES + "t1,ann,yes\n")
    assert FORMAT.read({"x": path}, None).outputs["ann"].names().tolist() == ["yes", "yes"]
    assert len(read_answers(path)[0]) == 4


def test_tasks_and_workers_without_an_answer_stay(tmp_path: Path) -> None:
    found = FORMAT.read({"x": put(tmp_path, "d.csv", "task,ann,bob\nt1,yes,\nt2,,\n")}, None)
    assert found.rows.tolist() == ["t1", "t2"]
    assert not found.outputs["bob"].answered.any()
    assert read_answers(tmp_path / "d.csv") == (["t1"], ["ann"], ["yes"])


def test_a_header_alone_is_no_answers(tmp_path: Path) -> None:
    found = FORMAT.read({"x": put(tmp_path, "a.csv", "task,worker,label\n")}, None)
    assert not found.outputs
    assert len(found.rows) == 0
