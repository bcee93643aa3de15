"""Reading tables from files."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from conjoin.contracts import Column
from conjoin.errors import ColumnError, FileError
from conjoin.tables import TableWarning, columns_of, conform, read_table, stream_table, write_table

DATA = Path(__file__).parents[3] / "shared" / "data" / "tables"
TEXT = "name,größe cm,🐟\nÄnne,1.5,3\nBob,,4\n"


def put(folder, content, name="t.csv"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def is_text(batch):
    assert list(batch) == ["name", "größe cm", "🐟"]
    assert batch["name"].tolist() == ["Änne", "Bob"]
    np.testing.assert_array_equal(batch["größe cm"], [1.5, np.nan])
    assert batch["🐟"].tolist() == [3, 4]
    assert batch["🐟"].dtype == np.int64


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path, encoding):
    is_text(read_table(put(tmp_path, TEXT.encode(encoding))))
    is_text(read_table(put(tmp_path, gzip.compress(TEXT.encode(encoding)), "t.csv.gz")))


def test_windows_1252_is_the_last_resort(tmp_path):
    path = put(tmp_path, "name,x\nÄnne €,1\n".encode("cp1252"))
    with pytest.warns(TableWarning, match="not UTF-8"):
        assert read_table(path)["name"].tolist() == ["Änne €"]
    path = put(tmp_path, "größe,x\na,1\n".encode("latin-1"))
    with pytest.warns(TableWarning, match="not UTF-8"):
        assert list(read_table(path)) == ["größe", "x"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_delimiters(tmp_path, delimiter, newline):
    is_text(read_table(put(tmp_path, TEXT.replace(",", delimiter).replace("\n", newline))))


def test_decimal_commas(tmp_path):
    batch = read_table(put(tmp_path, 'a;b;c\n1,5;"x,y";1\n-2;;2,0\n'))
    assert batch["a"].tolist() == [1.5, -2]
    assert batch["b"].tolist() == ["x,y", None]
    assert batch["c"].tolist() == [1, 2]
    column = Column("a", "number")
    (part,) = stream_table(put(tmp_path, "a;b\n1,5;x\n"), columns=[column])
    assert conform(part, [column])["a"].tolist() == [[1.5]]


def test_lines_before_the_names(tmp_path):
    for before in ("\n\n", "\r\n", "sep=,\n", "sep=,\r\n"):
        is_text(read_table(put(tmp_path, before + TEXT)))
    assert list(read_table(put(tmp_path, "sep=;\na,b;c\n1;2\n"))) == ["a,b", "c"]


def test_compressed(tmp_path):
    is_text(read_table(put(tmp_path, gzip.compress(TEXT.encode()), "no-suffix")))
    plain = put(tmp_path, TEXT)
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (from read_csv('{plain}', all_varchar=true)) to '{tmp_path}/z.csv.zst' "
            "(format csv, compression zstd)"
        )
    is_text(read_table(tmp_path / "z.csv.zst"))


@pytest.mark.parametrize(
    "name", ["a b.csv", "[a]*?.csv", "it's.csv", "{key}.csv", "🐟.csv", "k=v/t.csv", "https:/x/t.csv"]
)
def test_paths_are_taken_literally(tmp_path, name, monkeypatch):
    put(tmp_path, "a,b\n9,9\n", "a.csv")
    path = put(tmp_path, TEXT, name)
    is_text(read_table(path))
    monkeypatch.chdir(tmp_path)
    is_text(read_table(name))


def test_parquet_and_json(tmp_path):
    frame = pd.DataFrame(
        {
            "Age": [1, 2],
            "age": [1.5, None],
            "job": ["x", None],
            "kind": pd.Categorical(["u", "v"]),
            "day": pd.to_datetime(["2020-01-01", None]),
            "zoned": pd.to_datetime(["2020-01-01", None]).tz_localize("Europe/Paris"),
            "yes": [True, False],
            "inner": [{"a": 1, "b": 2}, None],
            "list": [[1, 2], [3, 4]],
            "after": [5, 6],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    batch = read_table(tmp_path / "t.parquet")
    assert list(batch) == list(frame.columns)
    types = [c.type for c in columns_of(batch)]
    assert types == [
        "number",
        "number",
        "category",
        "category",
        "date",
        "date",
        "boolean",
        "category",
        "tensor",
        "number",
    ]
    assert batch["zoned"][0] == np.datetime64("2019-12-31T23:00")
    put(
        tmp_path,
        '{"a": 1, "b": "x", "m": 1}\n{"a": null, "b": "ü", "m": "z", "d": "2020-01-01"}\n',
        "t.jsonl",
    )
    batch = read_table(tmp_path / "t.jsonl")
    np.testing.assert_array_equal(batch["a"], [1, np.nan])
    assert batch["b"].tolist() == ["x", "ü"]
    assert batch["m"].tolist() == ["1", "z"]
    assert np.isnat(batch["d"][0])
    put(tmp_path, json.dumps([{"a": 1}, {"a": 2}]), "t.json")
    assert read_table(tmp_path / "t.json")["a"].tolist() == [1, 2]


def test_types_of_a_csv(tmp_path):
    rows = [
        "whole,real,code,big,huge,word,gap,day,truth,none,quoted,under,hex",
        '1,1.5,00123,9007199254740992,123456789012345678901,NA,NA,2020-01-01,true,,"1",1_0,0x1',
        '-2,1e3,12,9007199254740993,123456789012345678902,None,3,2020-01-02T10:00:00Z,False,,"2",2_0,0x2',
        '3,inf,7,1,1,?,?,,TRUE,,"a ""b""\nc",3_0,0x3',
        "4,4,8,2,2,yes,4,,true,,d,4_0,0x4",
    ]
    path = put(tmp_path, "\n".join(rows) + "\n")
    with pytest.warns(TableWarning, match="beyond"):
        batch = read_table(path)
    assert batch["whole"].tolist() == [1, -2, 3, 4]
    assert batch["whole"].dtype == np.int64
    assert batch["real"].tolist() == [1.5, 1000, np.inf, 4]
    assert batch["code"].tolist() == ["00123", "12", "7", "8"]
    assert batch["big"].tolist() == ["9007199254740992", "9007199254740993", "1", "2"]
    assert batch["huge"].tolist()[0] == "123456789012345678901"
    assert batch["word"].tolist() == ["NA", "None", "?", "yes"]
    np.testing.assert_array_equal(batch["gap"], [np.nan, 3, np.nan, 4])
    assert batch["day"].dtype.kind == "M"
    assert batch["day"][1] == np.datetime64("2020-01-02T10:00")
    assert np.isnat(batch["day"][2])
    assert batch["truth"].tolist() == ["true", "False", "TRUE", "true"]
    assert np.isnan(batch["none"].astype(float)).all()
    assert batch["quoted"].tolist() == ["1", "2", 'a "b"\nc', "d"]
    assert batch["under"].tolist() == ["1_0", "2_0", "3_0", "4_0"]
    assert batch["hex"].tolist() == ["0x1", "0x2", "0x3", "0x4"]


def test_many_columns(tmp_path):
    batch = {f"n {k}": np.arange(3.0) / (k + 1) for k in range(250)}
    batch["code"] = np.array(["01", "02", "1"], dtype=object)
    write_table(batch, tmp_path / "t.csv")
    found = read_table(tmp_path / "t.csv")
    assert list(found) == list(batch)
    assert all(np.array_equal(found[n], batch[n]) for n in batch)


def test_a_word_far_down_makes_a_column_text(tmp_path):
    path = put(tmp_path, "a,b\n" + "1,1\n" * 5000 + "2.5,x\n")
    batch = read_table(path)
    assert batch["a"].dtype == np.float64
    assert batch["b"][0] == "1"
    assert batch["b"][-1] == "x"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "t.csv is empty"),
        (" \n\n", "t.csv is empty"),
        ("a,b\n", "t.csv holds no rows"),
        ("a,b\n1,2\n3\n4,5\n", "t.csv, line 3: the header has 2 columns, this row 1: '3'"),
        ("a,b\n1,2\n3,4,5\n", "t.csv, line 3: the header has 2 columns, this row 3"),
        ('a,b\n1,"2\n', "t.csv, line 2: a quote is not closed"),
        (b"\x00\x01\x02\x03" * 100, "binary data"),
        (b"PK\x03\x04" + b"x" * 50, "zip archive"),
        (b"\x80\x04\x95abc", "pickle"),
        (b"PAR1 no parquet", "cannot be read"),
        (gzip.compress(b"a,b\n" + os.urandom(400))[:60], "cannot be read"),
    ],
)
def test_files_that_are_no_table(tmp_path, content, words):
    with pytest.raises(FileError, match=words):
        read_table(put(tmp_path, content))
    with pytest.raises(FileError, match=words):
        list(stream_table(put(tmp_path, content)))


def test_broken_json(tmp_path):
    for content in ("5", "{}", "[]", ""):
        with pytest.raises(FileError, match=r"holds no rows|is empty"):
            read_table(put(tmp_path, content, "t.jsonl"))
    with pytest.raises(FileError, match="line 3"):
        read_table(put(tmp_path, '{"a": 1}\n{"a"\n', "t.jsonl"))


def test_doubled_names(tmp_path):
    with pytest.raises(ColumnError, match=r"t\.csv, line 1: .*doubled: 'a'"):
        read_table(put(tmp_path, "a,b,a\n1,2,3\n"))
    assert list(read_table(put(tmp_path, ",Age,age\n1,2,3\n"))) == ["column0", "Age", "age"]


def test_no_file(tmp_path):
    put(tmp_path, "a\n1\n", "loans.csv")
    with pytest.raises(FileError, match=r"there is no file .*did you mean .*loans.csv"):
        read_table(tmp_path / "loan.csv")
    with pytest.raises(FileError, match="is a folder"):
        read_table(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    path = put(tmp_path, TEXT)
    path.chmod(0)
    with pytest.raises(FileError, match="permission denied"):
        read_table(path)


def test_mixed_newlines(tmp_path):
    assert read_table(put(tmp_path, "a,b\r\n1,x\n2,y\r\n"))["b"].tolist() == ["x", "y"]


def test_a_stream_is_the_table_in_parts(tmp_path):
    n = 2500
    path = tmp_path / "t.csv"
    write_table({"k": np.arange(n), "s": np.array([f"s{k % 7}" for k in range(n)], dtype=object)}, path)
    parts = list(stream_table(path, 1000))
    assert [len(p["k"]) for p in parts] == [1000, 1000, 500]
    assert np.concatenate([p["k"] for p in parts]).tolist() == list(range(n))
    assert np.concatenate([p["s"] for p in parts]).tolist() == read_table(path)["s"].tolist()


def test_a_stream_follows_the_columns_asked_for(tmp_path):
    path = put(tmp_path, "id,a,b,day\n007,1,2,2020-01-01\n008,?,3,\n")
    columns = [Column("b", "category"), Column("a", "number"), Column("day", "date")]
    (part,) = stream_table(path, columns=columns, others=["id"])
    assert list(part) == ["b", "a", "day", "id"]
    assert part["b"].tolist() == ["2", "3"]
    np.testing.assert_array_equal(part["a"], [1, np.nan])
    assert part["id"].tolist() == ["007", "008"]
    assert conform(part, columns)["day"].shape == (2, 1)
    with pytest.raises(ColumnError, match=r"'income' is missing.*there are id, a, b, day"):
        list(stream_table(path, columns=[Column("income", "number")]))
    bad = put(tmp_path, "a,b\n1,2\n2,two\n3,three\n")
    with pytest.raises(ColumnError, match="'b' must be a number; row 1 holds 'two'"):
        list(stream_table(bad, columns=[Column("a", "number"), Column("b", "number")]))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak of memory from /proc")
def test_a_stream_stays_small(tmp_path):
    """300,000 rows of 14 columns, in a process of its own; the million of the issue was measured by hand."""
    rows = "".join(f"{k},State-gov,{k * 7},Bachelors,13,Never-married,{k % 90},x\n" for k in range(10_000))
    path = tmp_path / "big.csv"
    with open(path, "w") as file:
        file.write("a,b,c,d,e,f,g,h\n" + rows * 30)
    code = (
        "import sys; from conjoin.tables import stream_table\n"
        "n = sum(len(p['a']) for p in stream_table(sys.argv[1]))\n"
        "peak = next(s for s in open('/proc/self/status') if s.startswith('VmHWM'))\n"
        "print(n, int(peak.split()[1]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    n, megabytes = map(int, done.stdout.split())
    assert n == 300_000
    assert megabytes < 450


@pytest.mark.skipif(not DATA.is_dir(), reason="the development tables are not here")
@pytest.mark.parametrize(
    ("name", "rows", "texts"), [("adult", 48842, 8), ("titanic", 891, 5), ("telco_churn", 7043, 15)]
)
def test_real_tables(name, rows, texts):
    batch = read_table(DATA / f"{name}.csv")
    assert len(batch["target"]) == rows
    features = {n: v for n, v in batch.items() if n != "target"}
    assert sum(v.dtype == object for v in features.values()) == texts
    theirs = pd.read_csv(DATA / f"{name}.csv", usecols=list(features), keep_default_na=False, na_values=[""])
    columns = columns_of(features)
    ours, pandas = conform(features, columns), conform(theirs, columns)
    for c in columns:
        np.testing.assert_array_equal(ours[c.name], pandas[c.name])
