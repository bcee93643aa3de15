"""Files of spans: JSON lines and CoNLL columns."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conjoin.errors import InputError
from conjoin.formats.spans import FORMAT, from_tags, read_file, to_tags
from conjoin.outputs import Spans, Values

LINE = {
    "id": "p 1",
    "text": "in New York",
    "spans": [{"start": 3, "end": 11, "label": "place", "score": 0.5}],
}


def put(path, *records):
    path.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8"
    )
    return path


def test_lines(tmp_path):
    a = put(tmp_path / "a.jsonl", LINE, {"id": 7, "text": "日本", "spans": []})
    b = put(tmp_path / "b.jsonl", {"id": 7, "spans": [{"start": 0, "end": 2, "label": "é"}]})
    found = FORMAT.read({"a": a, "b": b}, a)
    assert found.rows.tolist() == ["p 1", "7"]
    assert found.outputs["a"].classes == ("place", "é")
    assert found.outputs["b"].answered.tolist() == [False, True]
    assert np.isnan(found.outputs["b"].scores[0])
    assert found.truth.answered.all()
    FORMAT.write(found.outputs["b"], found, tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {
        "id": 7,
        "text": "日本",
        "spans": [{"start": 0, "end": 2, "label": "é", "text": "日本"}],
    }
    FORMAT.write(found.outputs["a"], found, tmp_path / "again.jsonl")
    assert read_file(tmp_path / "again.jsonl")["p 1"].spans == read_file(a)["p 1"].spans


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("{", "no JSON"),
        ("[1]", "needs {"),
        ({"id": 1, "spans": 3}, "needs {"),
        ({"id": [1], "spans": []}, "the id must be"),
        ({"id": 1, "text": 5, "spans": []}, "the text must be a string"),
        ({"id": "p 1", "spans": []}, "occurs a second time"),
        ({"id": 1, "spans": [3]}, "a span is an object"),
        ({"id": 1, "spans": [{"start": 0.5, "end": 1, "label": "x"}]}, "whole numbers"),
        ({"id": 1, "spans": [{"start": True, "end": 1, "label": "x"}]}, "whole numbers"),
        ({"id": 1, "spans": [{"start": 3, "end": 1, "label": "x"}]}, "needs 0 <= start <= end"),
        ({"id": 1, "spans": [{"start": 0, "end": 10**30, "label": "x"}]}, "needs 0 <= start <= end"),
        (
            {"id": 1, "text": "ab", "spans": [{"start": 0, "end": 3, "label": "x"}]},
            "the text has 2 characters",
        ),
        ({"id": 1, "spans": [{"start": 0, "end": 1}]}, "the label of a span"),
        ({"id": 1, "spans": [{"start": 0, "end": 1, "label": "x", "score": "high"}]}, "the score of a span"),
        ('{"id": 1, "spans": [{"start": 0, "end": 1, "label": "x", "score": NaN}]}', "the score of a span"),
    ],
)
def test_bad_lines_are_named(tmp_path, bad, told):
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: ") as raised:
        FORMAT.read({"a": put(tmp_path / "a.jsonl", LINE, bad)}, None)
    assert told in str(raised.value)


def test_files_that_do_not_fit_together(tmp_path):
    a = put(tmp_path / "a.jsonl", LINE)
    other = put(tmp_path / "b.jsonl", {**LINE, "text": "in Old York"})
    with pytest.raises(InputError, match="different texts with the id 'p 1'"):
        FORMAT.read({"a": a, "b": other}, None)
    with pytest.raises(InputError, match="has no id that an answer has"):
        FORMAT.read({"a": a}, put(tmp_path / "t.jsonl", {**LINE, "id": 3}))


COLUMNS = """-DOCSTART- -X- O

New NNP B-place
York NNP I-place
is VBZ O
home NN S-thing

EU	I-org
said	O
"""


def test_columns(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text(COLUMNS)
    found = FORMAT.read({"a": path}, path)
    spans = found.outputs["a"]
    assert found.rows.tolist() == ["1", "2"]
    assert spans.starts.tolist() == [0, 12, 0]
    assert spans.ends.tolist() == [8, 16, 2]
    assert [spans.classes[k] for k in spans.codes] == ["place", "thing", "org"]
    FORMAT.write(spans, found, tmp_path / "out.bio")
    assert (tmp_path / "out.bio").read_text().split("\n")[:4] == [
        "New\tB-place",
        "York\tI-place",
        "is\tO",
        "home\tB-thing",
    ]
    for bad, told in (("lonely\n", "line 1: 1 columns"), ("a b X-place\n", "line 1: the tag 'X-place'")):
        path.write_text(bad)
        with pytest.raises(InputError, match=told):
            FORMAT.read({"a": path}, None)


def test_columns_need_a_text(tmp_path):
    found = FORMAT.read({"a": put(tmp_path / "a.jsonl", {"id": 1, "spans": []})}, None)
    with pytest.raises(InputError, match="columns need the text of 1"):
        FORMAT.write(found.outputs["a"], found, tmp_path / "out.conll")
    with pytest.raises(InputError, match="holds spans, not values"):
        FORMAT.write(Values([1.0]), found, tmp_path / "out.jsonl")
    assert isinstance(found.outputs["a"], Spans)


tags = st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"]), max_size=8)


@given(tags)
def test_tags_come_back(given_):
    tokens = [f"t{k}" for k in range(len(given_))]
    spans = from_tags(tokens, given_)
    again = [tag for _, tag in to_tags(" ".join(tokens), spans)]
    assert from_tags(tokens, again) == spans
    assert all((a == "O") == (b == "O") for a, b in zip(given_, again, strict=True))
