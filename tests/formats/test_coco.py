"""COCO's files: results and annotations in, results out, and errors that name file and entry."""

import gzip
import json

import numpy as np
import pytest

from conjoin.errors import FileError, InputError, OutputsError
from conjoin.formats import format_of
from conjoin.formats.coco import FORMAT, read, write
from conjoin.fusion.boxes import weighted_boxes_fusion
from conjoin.outputs import Values

TRUTH = {
    "images": [{"id": 30, "width": 100}, {"id": 7}, {"id": 101}],
    "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "зубная щётка"}],
    "annotations": [
        {"id": 1, "image_id": 30, "category_id": 90, "bbox": [10, 20, 30, 40], "iscrowd": 0, "area": 1200},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5.5, 5], "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2]},
    ],
}
ONE = {"image_id": 30, "category_id": 90, "bbox": [11, 21, 30, 40], "score": 0.9}
TWO = {"image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 0.25}


def put(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def truth(tmp_path):
    return put(tmp_path / "truth.json", TRUTH)


def test_read(tmp_path, truth):
    files = {"b": put(tmp_path / "b.json", [ONE, TWO]), "a ü": put(tmp_path / "a.json", [])}
    found = read(files, truth)
    assert found.rows.tolist() == ["7", "30", "101"]
    assert list(found.outputs) == ["a ü", "b"]
    one = found.outputs["b"]
    assert one.classes == ("person", "зубная щётка")
    assert one.coords.tolist() == [[1, 1, 3, 3], [11, 21, 41, 61]]
    assert one.scores.tolist() == [0.25, 0.9]
    assert one.offsets.tolist() == [0, 1, 2, 2]
    assert one.answered.all()
    assert found.outputs["a ü"].offsets.tolist() == [0, 0, 0, 0]
    assert found.truth.scores.tolist() == [0, 1, 1]
    assert found.truth.coords[0].tolist() == [0, 0, 5.5, 5]


def test_read_without_truth(tmp_path):
    files = {"a": put(tmp_path / "a.json", [ONE]), "b": put(tmp_path / "b.json", [TWO])}
    found = read(files)
    assert found.truth is None
    assert found.rows.tolist() == ["7", "30"]
    assert found.outputs["a"].classes == found.outputs["b"].classes == ("1", "90")


def test_written_and_read_again(tmp_path, truth):
    files = {"a": put(tmp_path / "a.json", [ONE, TWO]), "b": put(tmp_path / "b.json", [ONE])}
    found = read(files, truth)
    fused = weighted_boxes_fusion(found.outputs)
    for name in ("out.json", "out.json.gz"):
        write(fused, found, tmp_path / name)
        again = read({"out": tmp_path / name}, truth).outputs["out"]
        np.testing.assert_allclose(again.coords, fused.coords, rtol=1e-12)
        np.testing.assert_array_equal(again.scores, fused.scores)
    raw = gzip.decompress((tmp_path / "out.json.gz").read_bytes())
    assert {(e["image_id"], e["category_id"]) for e in json.loads(raw)} == {(7, 1), (30, 90)}
    with pytest.raises(OutputsError, match="only boxes"):
        write(Values([1.0]), found, tmp_path / "no.json")


def test_ids_may_be_strings(tmp_path):
    entries = [{**ONE, "image_id": "b"}, {**TWO, "image_id": "a"}, {**TWO, "image_id": 3}]
    found = read({"a": put(tmp_path / "a.json", entries)})
    assert found.rows.tolist() == ["3", "a", "b"]
    write(found.outputs["a"], found, tmp_path / "out.json")
    assert {e["image_id"] for e in json.loads((tmp_path / "out.json").read_text())} == {3, "a", "b"}


def test_nothing_found_at_all(tmp_path, truth):
    found = read({"a": put(tmp_path / "a.json", [])}, truth)
    write(weighted_boxes_fusion(found.outputs), found, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == []
    assert len(read({"a": tmp_path / "a.json"}).rows) == 0


def test_boxes_without_area_stay_out(tmp_path, truth):
    found = read({"a": put(tmp_path / "a.json", [{**ONE, "bbox": [1, 1, 0, 5]}, TWO])}, truth)
    assert len(found.outputs["a"].scores) == 1


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({**ONE, "category_id": 91}, r"entry 1: the truth has no category with the id 91; it has 1, 90"),
        ({**ONE, "image_id": 31}, r"entry 1: the truth has no image with the id 31"),
        ({**ONE, "image_id": None}, r"entry 1: image_id must be a whole number or a string"),
        ({**ONE, "image_id": True}, r"entry 1: image_id"),
        ({**ONE, "bbox": [1, 2, -3, 4]}, r"entry 1: bbox has a negative width or height, -3 x 4"),
        ({**ONE, "bbox": [1, 2, 3]}, r"entry 1: bbox must be \[x, y, width, height\]"),
        ({**ONE, "bbox": [1, 2, 3, float("nan")]}, r"entry 1: bbox must be"),
        ({**ONE, "bbox": [1, 2, 3, 1e999]}, r"entry 1: bbox must be"),
        ({**ONE, "score": float("nan")}, r"entry 1: score must be a finite number"),
        ({k: v for k, v in ONE.items() if k != "score"}, r"entry 1: score must be a finite number, not None"),
        ("box", r"entry 1: image_id must be"),
    ],
)
def test_entries_without_sense(tmp_path, truth, entry, told):
    path = put(tmp_path / "the results.json", [TWO, entry])
    with pytest.raises(InputError, match=f"the results.json, {told}"):
        read({"a": path}, truth)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[{"image_id": 1},\n\n oops]', "line 3: no JSON"),
        ("", "line 1: no JSON"),
        ({"annotations": []}, "no COCO results"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_files_without_sense(tmp_path, content, told):
    with pytest.raises(InputError, match=f"bad.json.*{told}"):
        read({"a": put(tmp_path / "bad.json", content)})


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"images": None}, "lacks images"),
        ({"annotations": {}}, "lacks annotations"),
        ({"images": [{"id": 1}, {"id": 1}]}, "an image id stands there twice"),
        (
            {"categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]},
            r"categories\[1\]: the category 'x'",
        ),
        ({"images": [{"name": "no id"}]}, r"images\[0\]: id must be"),
        (
            {"annotations": [{"image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
            r"annotations\[0\]: the truth has",
        ),
    ],
)
def test_truths_without_sense(tmp_path, changed, told):
    path = put(tmp_path / "truth.json", {**TRUTH, **changed})
    with pytest.raises(InputError, match=f"truth.json.*{told}"):
        read({}, path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileError, match="there is no file"):
        read({"a": tmp_path / "none.json"})


def test_the_table_knows_it():
    assert format_of("boxes") is FORMAT
