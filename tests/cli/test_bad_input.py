"""Bad input: the right exit status, one message that says what, where and what to do, and nothing
half-made."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

import conjoin
from conjoin.tables import read_table, write_table

HEAD = "age,income,job,status\n"


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def refused(done, status, *texts):
    """One message on stderr, with these texts; nothing on stdout."""
    assert done.status == status, done.out + done.err
    assert done.err.count("error:") == 1, done.err
    assert done.out == ""
    for text in texts:
        assert text in done.err


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def fit(command, fast, table, *words):
    """A fit whose bundle would be `out.conjoin` beside the table."""
    return command("fit", table, "-o", table.parent / "out.conjoin", *fast, *words)


# ---------------------------------------------------------------- tables to learn from


@pytest.mark.parametrize("text", ["", "\n\n", HEAD])
def test_an_empty_file(command, fast, tmp_path, text):
    done = fit(command, fast, write(tmp_path / "t.csv", text), "-t", "status")
    refused(done, 3, "t.csv")
    assert names(tmp_path) == ["t.csv"]


def test_a_file_that_is_not_there(command, fast, tmp_path, loans):
    done = fit(command, fast, tmp_path / "lons.csv", "-t", "status")
    refused(done, 3, "lons.csv", "loans.csv")


def test_no_target_column(command, fast, loans):
    refused(
        fit(command, fast, loans, "-t", "statsu"),
        2,
        "'statsu'",
        "age, income, job, status",
        "did you mean 'status'",
    )
    assert names(loans.parent) == ["loans.csv"]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([""] * 6, ["missing in every row"]),
        (["paid"] * 6, ["one class", "'paid'"]),
    ],
)
def test_a_target_with_nothing_to_learn(command, fast, tmp_path, values, texts):
    table = write(tmp_path / "t.csv", HEAD + "".join(f"{i},{i * 7},cook,{v}\n" for i, v in enumerate(values)))
    refused(fit(command, fast, table, "-t", "status"), 2, "status", *texts)
    assert names(tmp_path) == ["t.csv"]


def test_a_class_with_one_row(command, fast, loans):
    write(loans, loans.read_text() + "33,2222.5,cook,unique\n")
    done = fit(command, fast, loans, "-t", "status", "--json")
    assert done.status == 0, done.err
    assert done.json["classes"] == ["late", "paid", "unique"]
    assert "unique" in " ".join(done.json["notes"])


def test_numbers_asked_as_classes(command, fast, loans):
    refused(fit(command, fast, loans, "-t", "income", "--task", "multiclass"), 2, "income", "regression")


def test_texts_asked_as_numbers(command, fast, loans):
    refused(fit(command, fast, loans, "-t", "status", "--task", "regression"), 2, "status", "classification")


def test_doubled_names_of_columns(command, fast, tmp_path):
    table = write(tmp_path / "t.csv", "age,age,status\n1,2,a\n2,3,b\n")
    refused(fit(command, fast, table, "-t", "status"), 2, "age")


def test_constant_and_missing_columns_and_infinities(command, fast, loans):
    lines = loans.read_text().splitlines()
    more = [lines[0] + ",same,none,far"]
    more += [line + f",1,,{'inf' if i % 3 else '-inf'}" for i, line in enumerate(lines[1:])]
    write(loans, "\n".join(more) + "\n")
    done = fit(command, fast, loans, "-t", "status", "--json")
    assert done.status == 0, done.err
    answer = conjoin.load(loans.parent / "out.conjoin").predict(read_table(loans))
    assert np.isfinite(answer.values).all()


def test_integers_beyond_float64(command, fast, loans):
    lines = loans.read_text().splitlines()
    more = ["key," + lines[0]] + [f"{2**60 + i}," + line for i, line in enumerate(lines[1:])]
    done = fit(command, fast, write(loans, "\n".join(more) + "\n"), "-t", "status", "--json")
    assert done.status == 0, done.err


def test_names_with_spaces_emoji_and_other_letters(command, fast, tmp_path, loans):
    lines = loans.read_text().replace("pilot", "Пилот 🚀").splitlines()
    table = write(
        tmp_path / "кредит 🏦.csv", "\n".join(['"the age, in years",доход,🧑‍🍳 job,状態', *lines[1:]]) + "\n"
    )
    done = fit(command, fast, table, "-t", "状態")
    assert done.status == 0, done.err
    for verb in (("info",), ("evaluate",)):
        words = (table,) if verb == ("evaluate",) else ()
        assert command(*verb, tmp_path / "out.conjoin", *words).status == 0
    done = command(
        "predict", tmp_path / "out.conjoin", table, "-o", tmp_path / "a.csv", "--keep", "the age, in years"
    )
    assert done.status == 2  # a comma stands between names
    assert (
        command(
            "predict", tmp_path / "out.conjoin", table, "-o", tmp_path / "a.csv", "--keep", "доход"
        ).status
        == 0
    )
    assert list(read_table(tmp_path / "a.csv")) == ["доход", "label", "late", "paid"]
    assert command("export", tmp_path / "out.conjoin", "-o", tmp_path / "o.onnx").status == 0


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (("--time-limit", "0"), ["--time-limit"]),
        (("--time-limit", "soon"), ["--time-limit", "soon"]),
        (("--max-size", "big"), ["--max-size", "20MB"]),
        (("--preset", "bset"), ["bset", "best"]),
        (("--metric", "log_los"), ["log_los", "log_loss"]),
        (("--members", "lightgmb"), ["lightgmb", "lightgbm"]),
        (("--task", "regresion"), ["regresion", "regression"]),
        (("--quantiles", "0.1,x"), ["--quantiles", "0.1,0.5,0.9"]),
        (("--ignore", "agee"), ["agee", "age"]),
        (("--weights", "wieghts"), ["wieghts"]),
        (("--groups", "jobb"), ["jobb", "job"]),
        (("--plan", "nowhere.json"), ["nowhere.json"]),
    ],
)
def test_options_that_make_no_sense(command, fast, loans, words, texts):
    done = command("fit", loans, "-t", "status", "-o", loans.parent / "o", *fast, *words)
    assert done.status in (2, 3)
    refused(done, done.status, *texts)
    assert names(loans.parent) == ["loans.csv"]


# ---------------------------------------------------------------- tables to answer


def test_a_missing_column(command, pair, tmp_path):
    table = write(tmp_path / "t.csv", "Age,job\n1,cook\n")
    done = command("predict", pair, table, "-o", tmp_path / "a.csv")
    refused(done, 2, "'age' is missing", "age, job", "'Age'")
    assert names(tmp_path) == ["t.csv"]


def test_more_columns_in_another_order(command, pair, rows, tmp_path):
    text = rows.read_text().splitlines()
    turned = [",".join(reversed(line.split(","))) + ",more" for line in text]
    write(tmp_path / "t.csv", "\n".join(turned) + "\n")
    assert command("predict", pair, rows, "-o", tmp_path / "a.csv").status == 0
    assert command("predict", pair, tmp_path / "t.csv", "-o", tmp_path / "b.csv").status == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_column_of_another_type(command, pair, tmp_path):
    table = write(tmp_path / "t.csv", "age,job\n1,cook\ntwo,cook\n")
    refused(command("predict", pair, table, "-o", tmp_path / "a.csv"), 2, "age", "two")
    assert names(tmp_path) == ["t.csv"]


def test_numbers_as_texts_are_read(command, pair, tmp_path):
    write_table(
        {"age": np.array(["1", "2.5"], dtype=object), "job": np.array([3, 4])}, tmp_path / "t.parquet"
    )
    assert command("predict", pair, tmp_path / "t.parquet", "-o", tmp_path / "a.csv").status == 0


def test_unseen_categories_and_one_row(command, trained, tmp_path):
    table = write(tmp_path / "t.csv", HEAD + "31,2500,astronaut,\n")
    assert command("predict", trained, table, "-o", tmp_path / "a.csv").status == 0
    assert len(read_table(tmp_path / "a.csv")["label"]) == 1


def test_no_rows(command, trained, tmp_path):
    done = command("predict", trained, write(tmp_path / "t.csv", HEAD), "-o", tmp_path / "a.csv")
    refused(done, 3, "t.csv", "no rows")
    assert names(tmp_path) == ["t.csv"]


def test_a_column_to_keep_that_is_not_there(command, pair, rows, tmp_path):
    done = command("predict", pair, rows, "-o", tmp_path / "a.csv", "--keep", "ID")
    refused(done, 2, "'ID'", "'id'")
    assert names(tmp_path) == ["rows.csv"]


def test_a_column_to_keep_that_the_answers_have(command, pair, tmp_path):
    table = write(tmp_path / "t.csv", "age,job,label\n1,cook,x\n")
    done = command("predict", pair, table, "-o", tmp_path / "a.csv", "--keep", "label")
    refused(done, 2, "'label'", "stand twice")


def test_a_truth_of_other_classes(command, trained, tmp_path):
    table = write(tmp_path / "t.csv", HEAD + "31,2500,cook,good\n32,2500,cook,bad\n")
    refused(command("evaluate", trained, table), 2, "good", "bad", "late, paid")


def test_no_truth(command, trained, tmp_path):
    table = write(tmp_path / "t.csv", "age,income,job\n31,2500,cook\n")
    refused(command("evaluate", trained, table), 2, "status")


# ---------------------------------------------------------------- bundles and places


def test_a_bundle_that_is_not_there(command, rows, tmp_path):
    refused(command("predict", tmp_path / "no", rows, "-o", tmp_path / "a.csv"), 3, "is not there")
    refused(command("info", tmp_path), 3, "no conjoin.json")


@pytest.mark.parametrize(
    ("file", "text"),
    [("arrays.safetensors", "truncated"), ("conjoin.json", "truncated"), ("README.md", "truncated")],
)
def test_a_truncated_bundle(command, pair, rows, tmp_path, file, text):
    shutil.copytree(pair, tmp_path / "b")
    path = tmp_path / "b" / file
    path.write_bytes(path.read_bytes()[:-20])
    refused(command("predict", tmp_path / "b", rows, "-o", tmp_path / "a.csv"), 4, text)
    assert not (tmp_path / "a.csv").exists()


def test_a_bundle_of_a_later_format(command, pair, good, tmp_path):
    shutil.copytree(pair, tmp_path / "b")
    good.tamper(tmp_path / "b", lambda document: document.update(format=7))
    refused(command("info", tmp_path / "b"), 4, "format 7", "pip install -U conjoin")


def test_errors_for_machines(command, tmp_path):
    done = command("info", tmp_path / "no", "--json")
    assert done.status == 3
    assert done.json["error"]["type"] == "FileError"
    assert "is not there" in done.json["error"]["message"]


@pytest.mark.parametrize("verb", ["fit", "predict", "export", "fuse"])
def test_what_is_there_is_not_replaced(command, pair, rows, tmp_path, verb):
    there = write(tmp_path / "there.csv", "mine")
    words = {
        "fit": (rows, "-t", "status"),
        "predict": (pair, rows),
        "export": (pair,),
        "fuse": ("values", rows, rows),
    }[verb]
    refused(command(verb, *words, "-o", there), 3, "there.csv", "is there" if verb == "fit" else "--force")
    assert there.read_text() == "mine"


def test_a_place_in_no_folder(command, pair, rows, tmp_path):
    refused(command("predict", pair, rows, "-o", tmp_path / "no" / "a.csv"), 3, "make it first")


def test_a_name_of_no_format(command, pair, rows, tmp_path):
    done = command("predict", pair, rows, "-o", tmp_path / "a.xlsx")
    assert done.status in (2, 3)
    refused(done, done.status, "a.xlsx", ".csv")


def test_a_disk_that_is_full(pair, rows, tmp_path):
    """The kernel refuses more than so many bytes of a file, as a full disk does."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    before = names(tmp_path)
    words = ["-m", "conjoin", "export", str(pair), "-o", str(tmp_path / "a.onnx")]
    done = subprocess.run([sys.executable, "-B", *words], preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 3
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert names(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission(command, pair, rows, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(command("predict", pair, rows, "-o", tmp_path / "closed" / "a.csv"), 3, "permission")


# ---------------------------------------------------------------- predictions to fuse


def fuse(command, tmp_path, *words):
    return command("fuse", *words, "-o", tmp_path / "f.csv")


def test_files_of_different_length(command, tmp_path):
    a, b = write(tmp_path / "a.csv", "p\n1\n2\n"), write(tmp_path / "b.csv", "p\n1\n")
    refused(fuse(command, tmp_path, "values", a, b), 2, "a 2, b 1", "--id")


def test_rows_that_one_file_lacks(command, tmp_path):
    a, b = write(tmp_path / "a.csv", "id,p\nx,1\ny,2\n"), write(tmp_path / "b.csv", "id,p\nx,1\nz,2\n")
    refused(fuse(command, tmp_path, "values", a, b), 2, "b lacks the rows id = y")


def test_rows_named_twice(command, tmp_path):
    a, b = write(tmp_path / "a.csv", "id,p\nx,1\nx,2\n"), write(tmp_path / "b.csv", "id,p\nx,1\ny,2\n")
    refused(fuse(command, tmp_path, "values", a, b), 2, "a: the column 'id'", "x stand twice")


def test_classes_with_nothing_in_common(command, tmp_path):
    a, b = write(tmp_path / "a.csv", "no,yes\n.5,.5\n"), write(tmp_path / "b.csv", "good,bad\n.5,.5\n")
    refused(fuse(command, tmp_path, "probabilities", a, b), 2, "good, bad", "no, yes")


def test_classes_that_one_file_does_not_know(command, tmp_path):
    a, b = write(tmp_path / "a.csv", "x,y\n.5,.5\n"), write(tmp_path / "b.csv", "y,z\n.5,.5\n")
    assert fuse(command, tmp_path, "probabilities", a, b).status == 0
    found = read_table(tmp_path / "f.csv")
    assert [found[c][0] for c in "xyz"] == [0.25, 0.5, 0.25]


def test_probabilities_that_are_none(command, tmp_path):
    a = write(tmp_path / "a.csv", "no,yes\n.5,.5\n7,.5\n")
    refused(fuse(command, tmp_path, "probabilities", a, a.parent / "a.csv"), 2, "given twice")
    b = write(tmp_path / "b.csv", "no,yes\n.5,.5\n.5,.5\n")
    refused(fuse(command, tmp_path, "probabilities", a, b), 2, "a: ", "sum to 1", "row 2 has no 7, yes 0.5")


def test_a_kind_that_there_is_not(command, tmp_path):
    a, b = write(tmp_path / "a.csv", "p\n1\n"), write(tmp_path / "b.csv", "p\n1\n")
    refused(fuse(command, tmp_path, "value", a, b), 2, "'value'", "did you mean 'values'")


def test_a_method_that_is_not_known(command, tmp_path):
    a, b = write(tmp_path / "a.csv", "p\n1\n"), write(tmp_path / "b.csv", "p\n1\n")
    refused(fuse(command, tmp_path, "values", a, b, "-m", "maen"), 2, "did you mean 'mean'")
    refused(fuse(command, tmp_path, "values", a, b, "-m", "stacking"), 2, "--truth")


def test_a_truth_of_another_length(command, tmp_path):
    a, b = write(tmp_path / "a.csv", "p\n1\n2\n"), write(tmp_path / "b.csv", "p\n1\n2\n")
    y = write(tmp_path / "y.csv", "y\n1\n")
    refused(fuse(command, tmp_path, "values", a, b, "--truth", y), 2, "the truth has 1 rows")
    y = write(tmp_path / "y.csv", "y,z\n1,2\n1,2\n")
    refused(fuse(command, tmp_path, "values", a, b, "--truth", y), 2, "--target")
    assert not (tmp_path / "f.csv").exists()
