"""`conjoin distil` from a bundle that a fit made."""

import numpy as np
import pytest

pytest.importorskip("lightgbm")

import conjoin
from conjoin.tables import write_table


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    rng = np.random.default_rng(0)
    n = 300
    x, job = rng.normal(size=n), np.array(["cook", "judge", "größer"], dtype=object)[rng.integers(0, 3, n)]
    status = np.where(x + (job == "cook") + rng.normal(size=n) > 0.5, "yes", "no").astype(object)
    table = {"x": x, "the job": job, "status": status}
    folder = tmp_path_factory.mktemp("distil")
    teacher = conjoin.fit(
        {k: v[:200] for k, v in table.items()},
        target="status",
        members=["linear", "neighbours"],
        time_limit=20,
        folds=2,
        threads=1,
    )
    conjoin.save(teacher, folder / "teacher.conjoin")
    write_table({k: v[:200] for k, v in table.items()}, folder / "train.csv")
    write_table({k: v[200:] for k, v in table.items()}, folder / "test.csv")
    return folder


def test_distil(command, place, tmp_path):
    out = tmp_path / "small.conjoin"
    words = (
        "distil",
        place / "teacher.conjoin",
        place / "train.csv",
        "--into",
        "tree",
        "-o",
        out,
        "--factor",
        "2",
    )
    done = command(*words, "--holdout", place / "test.csv", "--threads", "1")
    assert done.status == 0, done.err
    assert "tree distilled" in done.out
    assert "100 rows held out" in done.out
    assert "one tree" in done.out
    again = command("evaluate", out, place / "test.csv", "--json")
    assert again.json["leaderboard"][0]["value"] < 0.75
    taken = command(*words)
    assert taken.status != 0
    found = command(*words, "--force", "--json")
    assert found.json["learner"] == "tree"
    assert any("the teacher learned from the rows" in text for text in found.json["notes"])
    assert found.json["rows"]["made"] == 2 * found.json["rows"]["table"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--into", "tre"), "did you mean 'tree'"),
        (("--into", "tree", "--augment", "mung"), "did you mean 'munge'"),
        (("--into", "tree", "--target", "statsu"), "did you mean 'status'"),
        (("--into", "tree", "--time-limit", "soon"), "--time-limit must be a time"),
        (("--into", "tree", "--holdout", "nowhere.csv"), "nowhere.csv"),
        (("--into", "tree", "--metric", "rsme"), "did you mean 'rmse'"),
    ],
)
def test_bad_words(command, place, tmp_path, words, message):
    out = tmp_path / "small.conjoin"
    done = command(
        "distil", place / "teacher.conjoin", place / "train.csv", "-o", out, "--factor", "1", *words
    )
    assert done.status in (2, 3)
    assert message in done.err
    assert not out.exists()
