"""Embedding models as tables of pieces."""

import numpy as np
import pytest

import conjoin
from conjoin.contracts import Card, Column
from conjoin.errors import BundleError, ColumnError, InputError
from conjoin.members.static import StaticEmbeddings, pieces_of, static_member, words_of
from conjoin.outputs import Embeddings
from conjoin.transfer.distil.static import static_embeddings


class Bags:
    """A teacher that means what its words mean, but for one pair that means something else together."""

    card = Card("bags", "embeddings", (Column("text", "text"),))
    size = 6

    def word(self, word):
        return np.random.default_rng(abs(sum(map(ord, word))) * 31 + len(word)).normal(size=self.size)

    def predict(self, batch):
        rows = []
        for text in batch["text"]:
            words = words_of(text)
            rows.append(sum((self.word(w) for w in words), np.zeros(self.size)))
        values = np.array(rows).reshape(-1, self.size)
        return Embeddings(values, np.abs(values).sum(axis=1) > 0)


def texts(n=300, seed=0):
    rng = np.random.default_rng(seed)
    words = ["cat", "dog", "sits", "runs", "über", "naïve", "東", "京", "wi-fi", "x9", "house", "tree"]
    return [" ".join(rng.choice(words, 1 + rng.integers(6))) for _ in range(n)]


def column(*given):
    out = np.empty(len(given), dtype=object)
    out[:] = given
    return {"text": out}


def likeness(student, teacher, some):
    a = student.predict(column(*some)).values
    b = teacher.predict(column(*some)).values
    a, b = a @ a.T, b @ b.T
    a = a / np.sqrt(np.outer(np.diag(a), np.diag(a)))
    b = b / np.sqrt(np.outer(np.diag(b), np.diag(b)))
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_words_and_pieces():
    assert words_of("Hé, you! 東京 wi-fi\x00\u200b") == ["he", ",", "you", "!", "東", "京", "wi", "-", "fi"]
    assert words_of("Ærø É", lower=False) == ["Ærø", "É"]
    assert words_of("") == []
    assert pieces_of("unable", {"un": 0, "##able": 1, "una": 2, "##ble": 3}) == [2, 3]
    assert pieces_of("unxable", {"un": 0, "##able": 1}) == []
    assert pieces_of("a" * 101, {"a": 0, "##a": 1}) == []


def test_pieces_are_those_of_the_tokenizers_library():
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = [
        "[UNK]",
        "cat",
        "##s",
        "un",
        "##able",
        "##a",
        "b",
        "##ble",
        "é",
        ",",
        "東",
        "京",
        "##x",
        "e",
    ]
    model = tokenizers.models.WordPiece({t: k for k, t in enumerate(vocabulary)}, unk_token="[UNK]")
    peer = tokenizers.Tokenizer(model)
    peer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    peer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    places = {t: k for k, t in enumerate(vocabulary)}
    for text in ("Cats, unable 東京!", "É unable,cats", "bx  catsx zzz", "\tcat\u00a0cats"):
        mine = [vocabulary[p] for w in words_of(text) for p in pieces_of(w, places)]
        assert mine == [t for t in peer.encode(text).tokens if t != "[UNK]"]


def test_a_bag_of_words_is_learned_whole():
    given = texts()
    student = static_embeddings(Bags(), texts=given, size=6)
    held = texts(60, seed=9)
    alone = static_embeddings(Bags(), student.tokens, size=6)
    assert likeness(student, Bags(), held) > max(0.95, likeness(alone, Bags(), held))


def test_a_vocabulary_alone_is_enough():
    student = static_embeddings(Bags(), ["[CLS]", "cat", "dog", "##s", "cat"], size=3)
    assert student.tokens == ("cat", "dog", "##s")
    out = student.predict(column("cat", "cats dog", "unknown", None, ""))
    assert out.values.shape == (5, 3)
    assert out.answered.tolist() == [True, True, False, False, False]
    assert np.linalg.norm(out.values[:2], axis=1) == pytest.approx(1, abs=1e-6)
    assert np.isnan(out.values[2:]).all()
    assert student.predict(column()).values.shape == (0, 3)


def test_rows_stand_alone_and_seeds_repeat():
    given = texts(80)
    one, two = (static_embeddings(Bags(), texts=given, size=4, seed=3) for _ in range(2))
    assert np.array_equal(one.vectors, two.vectors)
    whole = one.predict(column(*given)).values
    parts = [one.predict(column(*given[k : k + 7])).values for k in range(0, 80, 7)]
    assert np.array_equal(whole, np.concatenate(parts))


def test_a_bundle_keeps_it(tmp_path):
    student = static_embeddings(Bags(), texts=texts(50), size=4)
    conjoin.save(student, tmp_path / "tischlein 東.conjoin")
    again = conjoin.load(tmp_path / "tischlein 東.conjoin")
    some = column("cat dog", "東", "nothing known")
    assert isinstance(again, StaticEmbeddings)
    assert np.array_equal(again.predict(some).values, student.predict(some).values)


def test_packed_nonsense_is_refused():
    student = static_member("s", "text", ("a", "b"), np.eye(2))
    arrays, meta = student.pack()
    assert StaticEmbeddings.unpack(arrays, meta, {}).tokens == ("a", "b")
    for wrong in ({"tokens": ["a"]}, {"tokens": ["a", "a"]}, {"tokens": [1, 2]}, {"tokens": None}):
        with pytest.raises(BundleError):
            StaticEmbeddings.unpack(arrays, {**meta, **wrong}, {})
    with pytest.raises(BundleError):
        StaticEmbeddings.unpack({"vectors": np.eye(2)}, meta, {})


def test_what_cannot_be_distilled_is_told():
    class Other(Bags):
        card = Card("o", "values", (Column("text", "text"),))

    with pytest.raises(InputError, match="embeds one column of text"):
        static_embeddings(Other(), ["a"])
    with pytest.raises(InputError, match="no vocabulary"):
        static_embeddings(Bags(), [])
    with pytest.raises(InputError, match="size"):
        static_embeddings(Bags(), ["a"], size=0)
    with pytest.raises(ColumnError, match="text"):
        static_embeddings(Bags(), ["a"]).predict({"other": np.array(["a"])})
