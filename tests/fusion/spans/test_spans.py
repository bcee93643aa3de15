"""Fusers of spans: by hand, on hostile input, fitted, and on six real taggers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.errors import BundleError, OutputsError, TruthError
from conjoin.formats.spans import FORMAT
from conjoin.fusion.single import Single, fit_single
from conjoin.fusion.spans import (
    FIT_FUSERS,
    FUSERS,
    SpanPosterior,
    fit_span_posterior,
    span_vote,
    token_vote,
    weighted_boxes_fusion,
)
from conjoin.outputs import Boxes, Spans, concat
from conjoin.scores import score_of

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "outputs" / "ner" / "dev"
F1 = score_of("f1", "spans")
CLASSES = ("org", "place")


def one(*found, classes=CLASSES):
    """A single row from (start, end, class[, score])."""
    rows = [(*f, 1.0)[:4] for f in found]
    return Spans(
        [r[0] for r in rows],
        [r[1] for r in rows],
        [r[3] for r in rows],
        [classes.index(r[2]) for r in rows],
        [0, len(rows)],
        classes,
    )


def told(spans, row=0):
    cut = slice(spans.offsets[row], spans.offsets[row + 1])
    names = [spans.classes[k] for k in spans.codes[cut]]
    return list(zip(spans.starts[cut].tolist(), spans.ends[cut].tolist(), names, strict=True))


def test_votes_on_whole_spans():
    outputs = {
        "a": one((0, 8, "place"), (20, 25, "org")),
        "b": one((0, 8, "place"), (30, 35, "org")),
        "c": one((0, 3, "place"), (20, 25, "place")),
    }
    assert told(span_vote(outputs)) == [(0, 8, "place")]
    assert span_vote(outputs).scores == pytest.approx([2 / 3])
    assert told(span_vote(outputs, votes=1)) == [(0, 8, "place"), (20, 25, "org"), (30, 35, "org")]
    heavy = {"a": 1, "b": 1, "c": 5}
    assert told(span_vote(outputs, weights=heavy)) == [(0, 3, "place"), (20, 25, "place")]
    assert told(span_vote(outputs, votes=2, overlap=0.3)) == [(0, 8, "place")]
    assert told(span_vote(outputs, votes=3, overlap=0.3)) == [(0, 8, "place")]
    assert told(span_vote(outputs, votes=3)) == []


def test_scores_may_be_the_votes():
    outputs = {"a": one((0, 8, "place", 0.9)), "b": one((0, 8, "place", 0.3)), "c": one()}
    assert span_vote(outputs, scored=True, share=0.4).scores == pytest.approx([0.4])
    assert told(span_vote(outputs, scored=True, share=0.41)) == []


def test_classes_are_aligned_by_name():
    turned = one((0, 8, "place"), classes=("place", "org"))
    fused = span_vote({"a": one((0, 8, "place")), "b": turned})
    assert told(fused) == [(0, 8, "place")]
    assert fused.classes == CLASSES


def test_votes_on_stretches():
    new_york, new, york = (0, 8, "place"), (0, 3, "place"), (4, 8, "place")
    outputs = {"a": one(new_york), "b": one(new_york), "c": one(new, york)}
    assert told(token_vote(outputs)) == [new_york]
    parted = {"a": one(new, york), "b": one(new, york), "c": one(new_york)}
    assert told(token_vote(parted)) == [new, york]
    clash = {"a": one((0, 8, "place")), "b": one((0, 8, "org")), "c": one((4, 8, "org"))}
    assert told(token_vote(clash)) == [(4, 8, "org")]
    assert told(token_vote(clash, outside=0.2)) != []
    alone = {"a": one(new), "b": one(), "c": one()}
    assert told(token_vote(alone)) == []
    assert told(token_vote(alone, outside=0.4)) == [new]


def test_a_tag_that_goes_on_begins_where_nothing_began():
    outputs = {
        "a": one((0, 8, "place")),
        "b": one((0, 8, "place")),
        "c": one((0, 4, "org")),
        "d": one((0, 4, "org")),
    }
    outputs |= {"e": one((0, 4, "org"))}
    assert told(token_vote(outputs, outside=0.4)) == [(0, 4, "org"), (4, 8, "place")]
    assert told(token_vote(outputs, outside=0.4, decode="viterbi")) == [(0, 8, "place")]


def test_fused_ends():
    outputs = {"a": one((0, 8, "place", 0.8)), "b": one((0, 10, "place", 0.2)), "c": one((0, 9, "org", 0.1))}
    fused = weighted_boxes_fusion(outputs)
    assert told(fused) == [(0, 8, "place")]  # .8 x 8 + .2 x 10 = 8.4
    assert fused.scores == pytest.approx([0.5 * 2 / 3])
    far = {"a": one((0, 4, "place", 0.9)), "b": one((3, 10, "place", 0.3))}
    assert told(weighted_boxes_fusion(far)) == [(0, 4, "place")]
    assert told(weighted_boxes_fusion(far, iou_thr=0.05)) == [(1, 6, "place")]
    assert told(weighted_boxes_fusion(far, least=0.5)) == []
    assert told(weighted_boxes_fusion({**far, "c": one()}, skip_box_thr=0.5)) == [(0, 4, "place")]


def test_fused_ends_as_ensemble_boxes():
    """Scores and ends that weighted_boxes_fusion_1d of ensemble-boxes 1.0.9 gives for these, over 1,000."""
    outputs = {
        "a": one((100, 300, "place", 0.9), (420, 500, "org", 0.4)),
        "b": one((110, 310, "place", 0.5), (130, 290, "place", 0.4)),
        "c": one((90, 280, "place", 0.7), (700, 800, "org", 0.6)),
    }
    fused = weighted_boxes_fusion(outputs, weights={"a": 2, "b": 1, "c": 1})
    assert told(fused) == [(103, 296, "place"), (420, 500, "org"), (700, 800, "org")]
    np.testing.assert_allclose(fused.scores, [0.63750002, 0.2, 0.15], atol=1e-7)


def test_rows_that_one_member_answers_alone_stay_as_they_are():
    nested = Spans([0, 2], [9, 4], [0.5, np.nan], [0, 1], [0, 0, 2], CLASSES)
    other = Spans([], [], [], [], [0, 0, 0], CLASSES, [True, False])
    for fuser in FUSERS.values():
        fused = fuser({"a": nested, "b": other})
        assert told(fused, 1) == [(0, 9, "org"), (2, 4, "place")]
        assert np.isnan(fused.scores[1])


def test_doubled_and_empty_spans():
    doubled = one((0, 4, "org", 0.2), (0, 4, "org", 0.9), (6, 6, "place"))
    outputs = {"a": doubled, "b": one(), "c": one()}
    assert span_vote(outputs, share=0.0).scores == pytest.approx([1 / 3, 1 / 3])
    assert span_vote(outputs, share=0.0, scored=True).scores == pytest.approx([0.3, 1 / 3])
    for fuser in FUSERS.values():
        assert fuser(outputs).answered.all()
        assert len(fuser({"a": one(), "b": one()}).starts) == 0
        assert len(fuser({"a": one().take([]), "b": one().take([])})) == 0


def test_more_members_than_bits_of_a_word():
    outputs = {f"m{k:02d}": one((0, 4, "org"), (k + 10, k + 12, "place")) for k in range(70)}
    for fuser in FUSERS.values():
        assert (0, 4, "org") in told(fuser(outputs))


def test_what_does_not_fit_is_told():
    outputs = {"a": one((0, 4, "org")), "b": one((0, 4, "org"))}
    boxes = Boxes([[0.0, 1.0]], [1.0], [0], [0, 1], ["org"])
    for fuser in FUSERS.values():
        with pytest.raises(OutputsError, match="'b' is of boxes"):
            fuser({"a": outputs["a"], "b": boxes})
        with pytest.raises(OutputsError, match="different numbers of rows"):
            fuser({"a": outputs["a"], "b": outputs["b"].take([0, 0])})
        with pytest.raises(OutputsError, match="negative"):
            fuser(outputs, weights=[-1, 1])
    with pytest.raises(OutputsError, match="share must lie in 0 to 1"):
        span_vote(outputs, share=2.0)
    with pytest.raises(OutputsError, match="decodes by repair, viterbi"):
        token_vote(outputs, decode="crf")
    with pytest.raises(OutputsError, match="outside must be"):
        token_vote(outputs, outside=-1.0)
    with pytest.raises(OutputsError, match="iou_thr"):
        weighted_boxes_fusion(outputs, iou_thr=np.nan)
    for fit in FIT_FUSERS.values():
        with pytest.raises(TruthError, match="truth of spans, not boxes"):
            fit(outputs, boxes)
        with pytest.raises(TruthError, match="answered 1 rows, the truth has 2"):
            fit(outputs, outputs["a"].take([0, 0]))


ends = st.tuples(st.integers(0, 12), st.integers(0, 6), st.sampled_from(CLASSES), st.floats(0, 1))
rows = st.lists(ends.map(lambda e: (e[0], e[0] + e[1], e[2], e[3])), max_size=5)


@given(st.lists(rows, min_size=2, max_size=4), st.sampled_from(sorted(FUSERS)))
@settings(deadline=None, max_examples=60)
def test_any_spans(members, name):
    outputs = {f"m{k}": one(*found) for k, found in enumerate(members)}
    fused = FUSERS[name](outputs)
    spans = sorted(told(fused))
    assert all(a[1] <= b[0] or a[0] == a[1] or b[0] == b[1] for a, b in itertools.pairwise(spans))
    assert {c for _, _, c in spans} <= {c for found in members for _, _, c, _ in found}
    agreed = {"m0": outputs["m0"], "m1": outputs["m0"]}
    if name == "span_vote":
        assert set(told(span_vote(agreed))) <= {(a, b, c) for a, b, c, _ in members[0]}


def taggers(seed, rows=200):
    """A tagger whose organisations are right, one whose places are, and one that is seldom right."""
    rng = np.random.default_rng(seed)
    true, found = [], {"orgs": [], "places": [], "guess": []}
    for _ in range(rows):
        row = [
            (20 * k, 20 * k + 5, CLASSES[int(rng.integers(2))], 1.0) for k in range(int(rng.integers(0, 4)))
        ]
        true.append(row)
        for name, good in (("orgs", "org"), ("places", "place"), ("guess", "")):
            said = [
                (a, b if rng.random() < (0.9 if c == good else 0.3) else b + 3, c, 0.5) for a, b, c, _ in row
            ]
            if rng.random() < 0.5:
                said.append((80, 84, "place" if good == "org" else "org", 0.5))
            found[name].append(said)
    return {name: many(said) for name, said in found.items()}, many(true)


def many(rows_):
    return concat([one(*row) for row in rows_])


@pytest.mark.parametrize(("name", "gain"), [("span_vote", 0.0), ("span_posterior", 0.05)])
def test_fits_on_new_rows(name, gain):
    """Wrong spans are the same for all, so that no vote on whole spans can help; a vote by class does."""
    outputs, truth = taggers(0)
    again, held_out = taggers(1)
    single = F1.value(fit_single(outputs, truth, score=F1)(again), held_out)
    assert F1.value(FIT_FUSERS[name](outputs, truth)(again), held_out) >= single + gain


def test_the_posterior_knows_who_is_right_about_what():
    outputs, truth = taggers(0)
    fuser = fit_span_posterior(outputs, truth)
    assert isinstance(fuser, SpanPosterior)
    by = dict(zip(fuser.members, (fuser.by_member[:, 0, None] + fuser.by_both).tolist(), strict=True))
    org, place = fuser.classes.index("org"), fuser.classes.index("place")
    assert by["orgs"][org] > by["orgs"][place] + 1
    assert by["places"][place] > by["places"][org] + 1
    strange = {n: Spans([0], [5], [1.0], [0], [0, 1], ["never seen"]) for n in outputs}
    assert len(fuser(strange)) == 1
    with pytest.raises(OutputsError, match="was not fitted to new"):
        fuser({"new": outputs["orgs"]})
    arrays, meta = fuser.pack()
    for broken in ({"by_both": arrays["by_both"][:1]}, {"by_class": arrays["by_class"] * np.nan}):
        with pytest.raises(BundleError):
            SpanPosterior.unpack({**arrays, **broken}, meta, {})
    with pytest.raises(BundleError, match="threshold"):
        SpanPosterior.unpack(arrays, {**meta, "threshold": 2.0}, {})


@pytest.mark.parametrize("name", FIT_FUSERS)
def test_few_and_missing_rows(name):
    outputs, truth = taggers(2, rows=4)
    for rows_ in (0, 1, 2):
        some = {n: o.take(slice(rows_)) for n, o in outputs.items()}
        assert len(FIT_FUSERS[name](some, truth.take(slice(rows_)))(outputs)) == 4
    nothing = {n: one().take([0] * 4) for n in outputs}
    assert FIT_FUSERS[name](nothing, truth)(outputs).answered.all()
    assert isinstance(FIT_FUSERS[name](nothing, one().take([0] * 4))(outputs), Spans)
    assert FIT_FUSERS[name](outputs, truth, weights=[0, 1, 2, 3])(outputs).answered.all()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}: real taggers' answers lie beside the project")
def test_real_taggers():
    files = {p.stem: p for p in sorted(DATA.glob("*.jsonl")) if p.stem != "truth"}
    found = FORMAT.read(files, DATA / "truth.jsonl")
    assert len(found.rows) == 644
    assert F1.value(found.outputs["compromise"], found.truth) == pytest.approx(0.2318, abs=5e-5)
    assert F1.value(found.outputs["spacy_sm_3_6"], found.truth) == pytest.approx(0.2043, abs=5e-5)
    assert F1.value(span_vote(found.outputs, votes=2), found.truth) == pytest.approx(0.26, abs=5e-3)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(644)
        a, b = np.sort(order[:322]), np.sort(order[322:])
        ours = {n: o.take(a) for n, o in found.outputs.items()}
        theirs = {n: o.take(b) for n, o in found.outputs.items()}
        fuser, best = (f(ours, found.truth.take(a), score=F1) for f in (fit_span_posterior, fit_single))
        assert not isinstance(fuser, Single)
        assert (
            F1.value(fuser(theirs), found.truth.take(b)) > F1.value(best(theirs), found.truth.take(b)) + 0.03
        )
