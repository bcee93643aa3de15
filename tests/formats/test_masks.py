"""Masks from and into NIfTI, PNG and NumPy files."""

import numpy as np
import pytest

from conjoin.errors import FileError, InputError, OutputsError
from conjoin.formats import format_of
from conjoin.fusion.masks import label_vote, mean
from conjoin.outputs import Masks, Values

FORMAT = format_of("masks")
RNG = np.random.default_rng(0)


def png(path, pixels, mode=None):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(pixels, mode).save(path) if mode else image.fromarray(pixels).save(path)
    return path


def nifti(path, volume, affine=None, kind=None):
    nibabel = pytest.importorskip("nibabel")
    made = nibabel.Nifti1Image(volume, np.diag([2.0, 2, 3, 1]) if affine is None else affine)
    if kind is not None:
        made.set_data_dtype(kind)
    nibabel.save(made, path)
    return path


def folder(root, name, images):
    (root / name).mkdir()
    for row, pixels in images.items():
        png(root / name / f"{row}.png", pixels)
    return root / name


def test_folders_of_png_are_matched_by_name_and_keep_255(tmp_path):
    one, two, three = (np.where(RNG.random((4, 5)) < 0.5, 255, 0).astype(np.uint8) for _ in range(3))
    a = folder(tmp_path, "ä b", {"x": one, "y y": two})
    b = folder(tmp_path, "b", {"y y": three, "z": one})
    truth = folder(tmp_path, "t", {"x": one})
    found = FORMAT.read({"ä b": a, "b": b}, truth)
    assert found.rows.tolist() == ["x", "y y", "z"]
    assert found.outputs["ä b"].answered.tolist() == [True, True, False]
    assert found.truth.answered.tolist() == [True, False, False]
    np.testing.assert_array_equal(found.outputs["b"].values[2], one // 255)
    FORMAT.write(label_vote(found.outputs), found, tmp_path / "out")
    again = FORMAT.read({"out": tmp_path / "out"}, None)
    np.testing.assert_array_equal(again.outputs["out"].values[0], one // 255)
    assert again.context.white


def test_labels_of_png_stay_as_they_are(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    found = FORMAT.read({"a": png(tmp_path / "a.png", pixels), "b": png(tmp_path / "b.png", pixels)}, None)
    np.testing.assert_array_equal(found.outputs["a"].values[0], pixels)
    FORMAT.write(found.outputs["a"], found, tmp_path / "o.png")
    np.testing.assert_array_equal(FORMAT.read({"o": tmp_path / "o.png"}, None).outputs["o"].values[0], pixels)


def test_nifti_keeps_its_place_in_space(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[0.0, 2, 0, 5], [-2, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    volume = (RNG.random((3, 4, 5)) < 0.5).astype(np.uint8)
    files = {
        "a": nifti(tmp_path / "a.nii.gz", volume, affine),
        "b": nifti(tmp_path / "b.nii", volume.astype(np.float32), affine),
    }
    found = FORMAT.read(files, files["a"])
    assert found.outputs["b"].values.dtype == np.uint8
    FORMAT.write(label_vote(found.outputs), found, tmp_path / "o.nii.gz")
    again = nibabel.load(tmp_path / "o.nii.gz")
    np.testing.assert_array_equal(again.affine, affine)
    np.testing.assert_array_equal(np.asarray(again.dataobj), volume)
    FORMAT.write(mean(found.outputs), found, tmp_path / "soft.nii")
    assert nibabel.load(tmp_path / "soft.nii").get_data_dtype() == np.float64


def test_probabilities_and_a_folder_of_nifti(tmp_path):
    soft = RNG.random((3, 4, 5)).astype(np.float32)
    (tmp_path / "s").mkdir()
    nifti(tmp_path / "s" / "case 1.nii.gz", soft)
    nifti(tmp_path / "s" / "case 2.nii.gz", np.zeros((3, 4, 5), np.float32))
    found = FORMAT.read({"s": tmp_path / "s"}, None)
    np.testing.assert_array_equal(found.outputs["s"].values[0], soft)
    FORMAT.write(found.outputs["s"], found, tmp_path / "o")
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["case 1.nii.gz", "case 2.nii.gz"]


def test_archives_hold_one_array_or_one_a_row(tmp_path):
    masks = RNG.integers(0, 3, (2, 3, 4)).astype(np.int64)
    np.savez(tmp_path / "a.npz", masks=masks, rows=["p", "q"], classes=["ground", "cat", "dog"])
    np.savez(tmp_path / "b.npz", masks=masks[:1], rows=["q"], classes=["ground", "cat", "dog"])
    found = FORMAT.read({"a": tmp_path / "a.npz", "b": tmp_path / "b.npz"}, None)
    assert found.rows.tolist() == ["p", "q"]
    assert found.outputs["b"].answered.tolist() == [False, True]
    assert found.outputs["a"].classes == ("ground", "cat", "dog")
    FORMAT.write(label_vote(found.outputs), found, tmp_path / "o.npz")
    again = FORMAT.read({"o": tmp_path / "o.npz"}, None).outputs["o"]
    assert again.classes == ("ground", "cat", "dog")
    np.savez(tmp_path / "c.npz", p=masks[0], q=masks[1])
    np.testing.assert_array_equal(FORMAT.read({"c": tmp_path / "c.npz"}, None).outputs["c"].values, masks)


def test_a_folder_of_one_and_a_file_go_together(tmp_path):
    pixels = np.eye(3, dtype=np.uint8)
    a = folder(tmp_path, "a", {"x": pixels})
    found = FORMAT.read({"a": a, "b": png(tmp_path / "b.png", pixels)}, None)
    assert len(found.rows) == 1
    folder(tmp_path, "c", {"x": pixels, "y": pixels})
    with pytest.raises(InputError, match="no name of a row"):
        FORMAT.read({"c": tmp_path / "c", "b": tmp_path / "b.png"}, None)


def test_bad_files_are_told_with_their_name(tmp_path):
    pytest.importorskip("nibabel")
    colours = png(tmp_path / "colour.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(InputError, match=r"colour\.png.*colours of mode RGB"):
        FORMAT.read({"a": colours}, None)
    for name in ("t.png", "t.nii", "t.nii.gz", "t.npz", "t.npy"):
        (tmp_path / name).write_bytes(b"no image at all")
        with pytest.raises(FileError, match=name):
            FORMAT.read({"a": tmp_path / name}, None)
        with pytest.raises(FileError, match="there is no file"):
            FORMAT.read({"a": tmp_path / f"absent {name}"}, None)
    with pytest.raises(InputError, match=r"not a file of masks"):
        FORMAT.read({"a": tmp_path / "a.bmp"}, None)
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match=r"object\.npy"):
        FORMAT.read({"a": tmp_path / "object.npy"}, None)


def test_shapes_that_differ_are_told(tmp_path):
    a = folder(tmp_path, "a", {"x": np.zeros((2, 2), np.uint8), "y": np.zeros((2, 3), np.uint8)})
    with pytest.raises(InputError, match="images differ in shape"):
        FORMAT.read({"a": a}, None)
    b, c = (folder(tmp_path, n, {"x": np.zeros((2, k), np.uint8)}) for n, k in (("b", 2), ("c", 3)))
    with pytest.raises(InputError, match="resample"):
        FORMAT.read({"b": b, "c": c}, None)


def test_a_cut_nifti_header_and_a_huge_one_are_refused(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = nifti(tmp_path / "v.nii", np.zeros((3, 4, 5), np.uint8))
    raw = bytearray(path.read_bytes())
    (tmp_path / "cut.nii").write_bytes(raw[:360])
    with pytest.raises(FileError, match=r"cut\.nii"):
        FORMAT.read({"a": tmp_path / "cut.nii"}, None)
    raw[42:48] = np.array([32767, 32767, 32767], "<i2").tobytes()
    (tmp_path / "huge.nii").write_bytes(raw)
    with pytest.raises(FileError, match=r"huge\.nii unpacks to more"):
        FORMAT.read({"a": tmp_path / "huge.nii"}, None)
    assert nibabel.__version__


def test_what_cannot_be_written_is_told(tmp_path):
    found = FORMAT.read({"a": png(tmp_path / "a.png", np.eye(3, dtype=np.uint8))}, None)
    soft = Masks(np.full((1, 3, 3), 0.5))
    for fused, name, message in (
        (soft, "o.png", "probabilities"),
        (found.outputs["a"], "o.tiff", "masks are written to"),
        (Masks(np.zeros((2, 3, 3), np.uint8)), "o.png", "holds one image"),
    ):
        with pytest.raises(InputError, match=message):
            FORMAT.write(fused, found, tmp_path / name)
        assert not (tmp_path / name).exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(FileError, match="there already"):
        FORMAT.write(found.outputs["a"], found, tmp_path / "full")
    with pytest.raises(OutputsError, match="not masks"):
        FORMAT.write(Values([1.0]), found, tmp_path / "o.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "full"]
