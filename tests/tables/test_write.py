"""Writing tables to files."""

from __future__ import annotations

import errno
import gzip
import os
import stat

import numpy as np
import pytest

from conjoin.errors import ColumnError, FileError
from conjoin.tables import TableWriter, batch_of, read_table, write_table

BATCH = batch_of(
    {
        "whole": [1, 2, 3],
        "größe cm": [0.1, np.nan, np.inf],
        "single": np.array([0.1, 2, 3], dtype=np.float32),
        'job, or "what"': ["a\nb", None, "ü"],
        "day": np.array(["2020-01-01T10:00", "NaT", "2020-01-02"], dtype="datetime64[s]"),
        "yes": [True, False, True],
    }
)
NAMES = ["t.csv", "t.tsv", "t.csv.gz", "t.jsonl", "t.ndjson.gz", "t.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_written_is_read(tmp_path, name):
    write_table(BATCH, tmp_path / name)
    found = read_table(tmp_path / name)
    assert list(found) == list(BATCH)
    assert found["whole"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found["größe cm"].astype(float), [0.1, np.nan, np.inf])
    np.testing.assert_array_equal(found["single"].astype(np.float32), BATCH["single"])
    assert found['job, or "what"'].tolist() == ["a\nb", None, "ü"]
    np.testing.assert_array_equal(found["day"].astype("datetime64[s]"), BATCH["day"])
    assert [str(v).lower() for v in found["yes"]] == ["true", "false", "true"]
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_batch_by_batch_is_all_at_once(tmp_path, name):
    half = {n: v[:1] for n, v in BATCH.items()}, {n: v[1:] for n, v in BATCH.items()}
    with TableWriter(tmp_path / name) as writer:
        for part in half:
            writer.append(part)
    write_table(BATCH, tmp_path / f"whole-{name}")
    parts, whole = read_table(tmp_path / name), read_table(tmp_path / f"whole-{name}")
    for n in BATCH:
        assert [str(v) for v in parts[n]] == [str(v) for v in whole[n]]


def test_vectors(tmp_path):
    batch = {"v": np.array([[1, 2], [3, 4]])}
    for name in NAMES:
        write_table(batch, tmp_path / name)
        assert len(read_table(tmp_path / name)["v"]) == 2


def test_same_rows_same_bytes(tmp_path):
    write_table(BATCH, tmp_path / "a.csv.gz")
    write_table(BATCH, tmp_path / "b.csv.gz")
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).startswith(b"whole,")


def two_batches(writer):
    writer.append({"one": np.arange(3)})
    writer.append({"other": np.arange(3)})


@pytest.mark.parametrize("name", NAMES)
def test_after_an_error_all_is_as_before(tmp_path, name):
    (tmp_path / name).write_text("before")
    with pytest.raises(ColumnError, match="other"), TableWriter(tmp_path / name) as writer:
        two_batches(writer)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "before"


def test_rights_are_the_usual_ones_and_links_are_followed(tmp_path):
    (tmp_path / "real.csv").write_text("before")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    write_table(BATCH, tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert len(read_table(tmp_path / "real.csv")["whole"]) == 3
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "real.csv").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.gz", "t.parquet.gz"])
def test_names_of_no_format(tmp_path, name):
    with pytest.raises(FileError, match="must end with"):
        write_table(BATCH, tmp_path / name)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_places_where_nothing_can_be_written(tmp_path, name):
    with pytest.raises(FileError, match="cannot be written"):
        write_table(BATCH, tmp_path / "no" / "folder" / name)
    (tmp_path / name).mkdir()
    with pytest.raises(FileError, match="is a folder"):
        write_table(BATCH, tmp_path / name)


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="needs a place where nobody may write")
def test_nobody_may_write_here():
    with pytest.raises(FileError, match=r"/proc/t.csv cannot be written"):
        write_table(BATCH, "/proc/t.csv")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_no_space_left(tmp_path):
    (tmp_path / "t.csv").symlink_to("/dev/full")
    with pytest.raises(FileError, match=os.strerror(errno.ENOSPC)):
        write_table({"a": np.arange(100_000)}, tmp_path / "t.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="cannot be written"):
        write_table(BATCH, tmp_path / "t.csv")
    tmp_path.chmod(0o700)
